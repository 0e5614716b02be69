"""Configurations that are no configuration, and values that a key does not take."""

from faults.cases import Case, Harm

GENERATE = ("generate", "PLACE/config.yaml")


def written(content: str | bytes) -> Harm:
    content = content.encode() if isinstance(content, str) else content
    return lambda place: (place / "config.yaml").write_bytes(content)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdef", "bcdefg")
)
# the file's content -> what the line names
FILES: dict[str, tuple[str | bytes, str]] = {
    "lists 5,000 deep": ("seed: " + "[" * 5000 + "]" * 5000, "config.yaml"),
    "sections 5,000 deep": ("train: " + "{a: " * 5000 + "1" + "}" * 5000, "config.yaml"),
    "aliases that grow": (BOMB, "config.yaml"),
    "an alias of itself": ("train: &a\n  epochs: *a\n", "config.yaml"),
    "a tag that runs": ("workdir: !!python/object/apply:os.system [id]\n", "config.yaml"),
    "a tag of its own": ("seed: !mine 3\n", "config.yaml"),
    "UTF-16": ("seed: 1\n".encode("utf-16"), "config.yaml"),
    "Latin-1": ("workdir: é\n".encode("latin-1"), "config.yaml"),
    "binary": (bytes(range(256)), "config.yaml"),
    "a number": ("5\n", "config.yaml"),
    "a list": ("- seed\n", "config.yaml"),
    "a key twice": ("seed: 1\nseed: 2\n", "seed"),
    "a tab": ("train:\n\tepochs: 1\n", "config.yaml"),
    "cut off": ("train: {epochs: ", "config.yaml"),
    "a section without keys": ("train:\n", "train"),
    "a section that is a list": ("train: [1]\n", "train"),
    "a key that is a number": ("1: 2\n", "config.yaml"),
    "NUL in a path": ('workdir: "a\\0b"\n', "workdir"),
    "a name beyond 255 bytes": (f"workdir: {'x' * 300}\n", "workdir"),
    "a value of itself": ("train: {lr: '${train.lr}'}\n", "train.lr"),
    "two values of each other": ("seed: ${train.epochs}\ntrain: {epochs: '${seed}'}\n", "seed"),
    "a value of nothing": ("seed: ${nosuch}\n", "seed"),
    "a value of the environment": ("workdir: ${oc.env:GLITCHFLOW_NOT_SET}\n", "workdir"),
    "a password in a store": ("store: {path: 's3://key:secret@bucket/x'}\n", "store.path"),
    "a password in a server": ("mlflow: {uri: 'http://me:secret@host:5000'}\n", "mlflow.uri"),
}
# an override; the line names its key
VALUES = (
    "workdir=s3://bucket/run",
    "workdir=file:///tmp/run",
    "sample.path=s3://bucket/samples.zarr",
    "seed=-1",
    "seed=1.5",
    "seed=true",
    "seed=one",
    "seed=null",
    "seed=[1]",
    "simulate.events=0",
    "simulate.events=-3",
    "simulate.events=true",
    "simulate.events=1.5",
    "simulate.events=.nan",
    "simulate.events={a: 1}",
    "simulate.recipe=nope",
    "simulate.recipe=no_such_module:f",
    "simulate.recipe=math:pi",
    "simulate.recipe=builtins:dict",
    "simulate.stride=0",
    "simulate.start=.inf",
    "simulate.detector.strain=' '",
    "simulate.detector.strain=null",
    "simulate.detector.witnesses=['']",
    "simulate.detector.background=1.5",
    "simulate.detector.snr=[-1,5]",
    "simulate.detector.snr=[9,5]",
    "simulate.detector.families.blip.weight=-1",
    "simulate.detector.families.blip.frequency=[5,100]",
    "simulate.detector.families.scattered_light.witness=NO",
    "series.duration=0",
    "series.duration=.inf",
    "series.duration=16.001",
    "series.sample_rate=-1",
    "series.sample_rate=.nan",
    "whiten.highpass=0",
    "whiten.highpass=-5",
    "whiten.highpass=1e6",
    "whiten.fftlength=0",
    "whiten.fftlength=-1",
    "whiten.length=0",
    "whiten.asd=all",
    "whiten.asd=file",
    "whiten.file=nowhere.txt",
    "whiten.filter=none",
    "qplot.q=2",
    "qplot.q=.nan",
    "qplot.frange=[0,100]",
    "qplot.frange=[100,10]",
    "qplot.frange=[10,1e6]",
    "qplot.frange=[10,20,30]",
    "qplot.frange=true",
    "qplot.shape=[0,16]",
    "qplot.shape=[16]",
    "qplot.shape=[1.5,16]",
    "qplot.span=-1",
    "qplot.span=1e6",
    "qplot.mismatch=1",
    "qplot.window=open",
    "store.chunk_mb=0",
    "store.compression=zip",
    "store.series=float16",
    "split.validation=1",
    "split.validation=-0.1",
    "split.test=0.95",
    "split.groups=[[2,1,train]]",
    "split.groups=[[1,2,other]]",
    "loader.batch=0",
    "loader.lanes=3",
    "loader.witnesses=[NO]",
    "train.workers=33",
    "train.lr=0",
    "train.lr=.inf",
    "train.lr=true",
    "train.checkpoint_every=-1",
    "train.checkpoint_every=often",
    "train.epoch=3",
    "derived=[{name: '', function: scatter, channels: ['SIM:SUS']}]",
    "derived=[{name: D, function: scatter, channels: [NO]}]",
    "derived=[{name: D, function: sum, channels: ['SIM:SUS']}]",
    "ingest.channels=[{name: '', files: [x]}]",
    "ingest.channels=[{name: A, files: []}]",
    "ingest.times=[.nan]",
    "ingest.times=[soon]",
    "tune.space={train.lr: 5}",
    "cluster.cpus=0",
    "cluster.cpus=true",
    "nosuch.key=1",
    "train=3",
    "qplot.shape=[100000,100000]",
    "series.duration=1e12",
)


def key(override: str) -> str:
    """The key that the line names; of a section and of what is no key, the section's."""
    name = override.partition("=")[0]
    return name.partition(".")[0] if name.startswith("nosuch") else name


PLAN = ("plan", "PLACE/config.yaml")
# what `generate` does not read: networks
NETWORKS = (
    "model.width=5000",
    "model.width=100000",
    "model.width=1000000000",
    "model.name=nope",
    "model.options={depth: three}",
    "model.options={nosuch: 1}",
)

CASES = [
    *(Case(f"file: {name}", GENERATE, named, written(content)) for name, (content, named) in FILES.items()),
    *(Case(f"value: {item}", (*GENERATE, item), key(item)) for item in VALUES),
    *(
        Case(f"value: {item}", (*PLAN, item), item.partition("=")[0].removesuffix(".options"))
        for item in NETWORKS
    ),
    Case("no file", ("generate", "PLACE/nowhere.yaml"), "PLACE/nowhere.yaml: no such file"),
    Case("a directory", ("generate", "PLACE"), "PLACE: cannot be read"),
    Case("a name beyond 255 bytes", ("generate", f"PLACE/{'x' * 300}"), "cannot be read"),
    Case("no override", (*GENERATE, "seed"), "seed: an override looks like"),
    Case("no key", (*GENERATE, "=1"), "=1: an override looks like"),
    Case("a shard that is none", (*GENERATE, "--shard", "99"), "--shard 99"),
    Case("a bucket", (*GENERATE, "store.path=s3://bucket"), "s3://bucket: is a bucket"),
    Case("an import", (*GENERATE, "simulate.recipe=os:system", "--no-imports"), "simulate.recipe"),
]
