cwlVersion: v1.2
class: CommandLineTool
doc: |
  Any stage of GlitchFlow. It writes where it is run, beside what earlier stages have written: `before` has their directories,
  which are linked there under their names and only read.

requirements:
  InitialWorkDirRequirement: {listing: $(inputs.before)}
  EnvVarRequirement: {envDef: {RAY_TMPDIR: /tmp, RAY_USAGE_STATS_ENABLED: "0"}} # Ray's sockets want a short path
  NetworkAccess: {networkAccess: true} # datasets by URL; of a run's own Ray nothing leaves loopback
  ResourceRequirement: {coresMin: $(inputs.cores), ramMin: $(inputs.memory)}

baseCommand: glitchflow
arguments:
  - {position: 2, valueFrom: workdir=.}
  - {position: 2, valueFrom: cluster.cpus=$(runtime.cores)}

inputs:
  stage: {type: string, inputBinding: {position: 0}}
  config: {type: File, inputBinding: {position: 1}}
  overrides: {type: 'string[]', default: [], inputBinding: {position: 3}, doc: "section.key=value"}
  before: {type: 'Directory[]', default: []}
  makes: {type: string, doc: "what the stage writes: docs/stages.md"}
  cores: {type: int, default: 2}
  memory: {type: int, default: 4000, doc: MiB}

outputs:
  made: {type: Directory, outputBinding: {glob: $(inputs.makes)}}

temporaryFailCodes: [1]
permanentFailCodes: [2] # the input is wrong: another try would not help
