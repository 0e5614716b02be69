cwlVersion: v1.2
class: Workflow
doc: Synthetic events, a twin trained on them, its predictions and its scores; a step for each stage.

requirements: {MultipleInputFeatureRequirement: {}}

inputs:
  config: File
  overrides: {type: 'string[]', default: []}
  cores: {type: int, default: 2}

steps:
  generate:
    run: stage.cwl
    in: {stage: {default: generate}, makes: {default: dataset.zarr}, config: config, overrides: overrides, cores: cores}
    out: [made]
  train:
    run: stage.cwl
    in:
      {stage: {default: train}, makes: {default: train}, config: config, overrides: overrides, cores: cores,
       before: {source: [generate/made], linkMerge: merge_flattened}}
    out: [made]
  infer:
    run: stage.cwl
    in:
      {stage: {default: infer}, makes: {default: predictions.zarr}, config: config, overrides: overrides, cores: cores,
       before: {source: [generate/made, train/made], linkMerge: merge_flattened}}
    out: [made]
  evaluate:
    run: stage.cwl
    in:
      {stage: {default: evaluate}, makes: {default: evaluation}, config: config, overrides: overrides, cores: cores,
       before: {source: [generate/made, train/made, infer/made], linkMerge: merge_flattened}}
    out: [made]

outputs:
  dataset: {type: Directory, outputSource: generate/made}
  trained: {type: Directory, outputSource: train/made}
  predictions: {type: Directory, outputSource: infer/made}
  evaluation: {type: Directory, outputSource: evaluate/made}
