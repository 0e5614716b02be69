"""What is learned: the loader, the network, its training, sweeps, and where a copy of their metrics goes."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from glitchflow.config.base import Every, File, Names, Section, Url, key

LANES = 4  # where nothing is said: 1, 2 and 4 workers make the same batches
UNEVEN = 1.1  # how many times the busiest worker's share may be what it is with the best number of lanes


def _workers(value: Any, check: ValidatorFunctionWrapHandler) -> int | list[int]:
    """One number of workers, or two: the fewest and the most."""
    try:
        found = check(value)
    except ValidationError:
        found = 0
    pair = found if isinstance(found, list) else [found, found]
    if len(pair) != 2 or not 1 <= pair[0] <= pair[1]:
        raise ValueError("must be at least 1, or the fewest and the most, as [2, 8]")
    return found


Workers = Annotated[int | list[int], WrapValidator(_workers)]


class Subset(Section):
    """Takes only the first events of a split."""

    train: int | None = key(None, "use only the first n events of the train split", gt=0)
    validation: int | None = key(None, "use only the first n events of the validation split", gt=0)
    test: int | None = key(None, "use only the first n events of the test split", gt=0)


class Loader(Section):
    """Says how batches are made of a split."""

    batch: int = key(32, "events in a global batch, over all workers", gt=0)
    lanes: int | None = key(
        None,
        "shuffling lanes, at least as many as workers; must divide the batch; null: of those numbers that give each"
        " worker as many the one nearest to 4, as 64 for 64 workers",
        gt=0,
    )
    normalise: Literal["log1p", "max", "mean"] = key(
        "log1p", "log1p: log(1 + energy) standardised; max: to [0, 1]; mean: by the mean; per channel"
    )
    cache_gb: float = key(
        4.0, "keep a split in memory where it fits in this much; 0: always read the store", "GB", ge=0
    )
    cache_gpu_gb: float | None = key(
        None,
        "on a GPU: keep a split in its memory where it fits in this much, before `cache_gb`; null: a third of what is"
        " free there; 0: never",
        "GB",
        ge=0,
    )
    cache_dir: str | None = key(
        None, "else, and where this is set, copy the Q-plots once to this directory on the node's own disk"
    )
    witnesses: Names = key(
        [], "witnesses to train on: names, or a file of them as `scan` writes; empty: all in the store"
    )
    drop: float = key(
        0.0,
        "coherent twins: share of the crops trained on in which a witness is silent, each for itself: one that is"
        " missing then costs no more than what it says",
        ge=0,
        lt=1,
    )
    subset: Subset = key(Subset(), "smaller parts of the splits")
    fresh: int = key(
        0,
        "simulated stores: train each epoch on so many events that the store's recipe draws anew, and nothing stores;"
        " 0: on the train split",
        ge=0,
    )

    def lanes_among(self, fewest: int, most: int | None = None) -> int:
        """Return the number of lanes, that which null stands for among so many workers: the one nearest to 4 of those
        that are shared out evenly, or nearly so where none is, whatever their number of these."""
        if self.lanes is not None:
            return self.lanes
        numbers = range(fewest, (most or fewest) + 1)
        possible = [n for n in range(numbers[-1], self.batch + 1) if not self.batch % n]
        worst = {lanes: max(-(-lanes // n) * n / lanes for n in numbers) for lanes in possible}
        even = UNEVEN * min(worst.values(), default=1)
        fit = [lanes for lanes, share in worst.items() if share <= even]
        return min(fit, key=lambda n: max(n, LANES) / min(n, LANES), default=numbers[-1])

    def share(self, fewest: int, most: int | None = None) -> int:
        """Return the events of a batch that the busiest worker has where they are fewest."""
        lanes = self.lanes_among(fewest, most)
        return -(-lanes // fewest) * self.batch // lanes


class Model(Section):
    """Chooses the network and its size."""

    name: str = key(
        "unet",
        "decoder, decoder_deep, resnet, unet, attention_unet; coherent; flow; posterior; or an import path",
    )
    width: int = key(16, "channels of the first layer", gt=0)
    norm: Literal["group", "instance"] = key("group", "normalisation between layers")
    init: Literal["kaiming", "xavier", "normal"] = key("kaiming", "distribution of the initial weights")
    init_scale: float | None = key(
        None, "factor on kaiming's or xavier's deviation (null: 1), or normal's deviation (null: 0.02)", gt=0
    )
    coordinates: bool = key(True, "give the network each pixel's frequency and time")
    options: dict[str, Any] = key({}, "further arguments of the model, as depth")


Memory = Annotated[float, Field(ge=0, lt=1)]


class Train(Section):
    """Says how a network is trained, and by how many workers."""

    workers: Workers = key(
        1, "DDP workers; [2, 8]: as many as the cluster has room for, from 2 to 8, while it changes"
    )
    threads: int = key(1, "CPU threads (and Ray CPUs) of each worker; as many, or two, read the store", gt=0)
    device: Literal["auto", "cpu", "gpu"] = key("auto", "auto: a GPU per worker where the cluster has them")
    seed: int | None = key(
        None,
        "seed of weights and shuffling, to train again on the same dataset; null: the experiment's",
        ge=0,
    )
    epochs: int = key(20, "passes over the train split", gt=0)
    loss: str = key(
        "l1",
        "l1, l2, l1+ssim or an import path, on normalised values; or whittle, on energies; of series: l2",
    )
    lr: float = key(2e-3, "learning rate", gt=0)
    lr_batch: int | None = key(
        None,
        "events of an optimiser step (loader.batch x train.accumulate) that `lr` is meant for: with others it is scaled"
        " by `lr_scaling`; null: `lr` as it is",
        gt=0,
    )
    lr_scaling: Literal["linear", "sqrt"] = key(
        "linear", "with lr_batch: by the ratio of the two, or by its square root, after `warmup`"
    )
    optimizer: Literal["adamw", "adam"] = key("adamw", "adam: weight decay as part of the gradient")
    betas: tuple[Memory, Memory] = key(
        (0.9, 0.999), "memories of the gradient and its square; not coherent twins'"
    )
    weight_decay: float = key(1e-4, "the optimiser's weight decay", ge=0)
    schedule: Literal["constant", "cosine", "plateau"] = key("cosine", "learning rate over time")
    warmup: int = key(50, "steps of linear warm-up", ge=0)
    patience: int = key(3, "plateau: epochs without progress before the rate falls", gt=0)
    factor: float = key(0.5, "plateau: by which it falls", gt=0, lt=1)
    floor: float = key(0.0, "plateau: learning rate below which it does not fall", ge=0)
    early_stop: int | None = key(None, "stop after this many epochs without a better validation loss", gt=0)
    ema: Memory = key(
        0.0, "memory of the running mean of the weights that is validated and kept; 0: the weights themselves"
    )
    clip: float | None = key(1.0, "largest gradient norm; null: no clipping", gt=0)
    accumulate: int = key(1, "batches per optimiser step", gt=0)
    precision: Literal["float32", "tf32", "bfloat16", "float64"] = key(
        "float32",
        "tf32: as float32, with a GPU's fast products of 10 bits; bfloat16: autocast; on a CPU for which"
        " torch has no kernels of it float32",
    )
    autotune: bool = key(
        False,
        "on a GPU: the fastest of cuDNN's algorithms, which another run may not choose: the same but for rounding",
    )
    channels_last: bool = key(True, "memory layout of images and weights")
    compile: bool = key(False, "torch.compile the model, of images, in training and validation")
    checkpoint_every: Every = key(
        0, "steps between checkpoints inside an epoch, or seconds as in 600s; 0: at each epoch's end"
    )
    keep: int = key(2, "newest checkpoints kept, beside the best", gt=0)
    keep_best: int = key(1, "checkpoints of the lowest validation losses that are kept", gt=0)
    samples: int = key(3, "validation events drawn after each epoch; 0: none", ge=0)
    init_from: File = key(
        "", "checkpoint directory whose weights to start from; posterior: that of its coherent twin"
    )
    init_normalisation: Literal["old", "new"] = key(
        "old", "with init_from: that of its data, which its weights expect, or that of the new data"
    )
    timeout: float = key(
        1800.0, "time that a worker waits for the others in an exchange before it is given up", "s", gt=0
    )
    restarts: int = key(
        2,
        "times that failed workers are replaced; as often again where they wrote a checkpoint; 0: never",
        ge=0,
    )
    grace: float = key(60.0, "after SIGTERM, SIGUSR1 or Ctrl-C: time to write a checkpoint in", "s", gt=0)

    @property
    def range(self) -> tuple[int, int]:
        """The fewest and the most workers."""
        few, *more = self.workers if isinstance(self.workers, list) else [self.workers]
        return few, max(more, default=few)

    @property
    def fewest(self) -> int:
        """The workers that a run has in any case: what is told of one before it is told for these."""
        return self.range[0]


class Mlflow(Section):
    """Says where a copy of a run's metrics goes."""

    uri: Url = key(
        "", "MLflow server to copy runs to, as http://host:5000; needs the extra [mlflow]; empty: none"
    )
    experiment: str = key("glitchflow", "MLflow experiment that runs are filed under")
    run: str = key("", "name of the run; empty: that of workdir")
    model: str = key("", "registered model that the best checkpoint becomes a version of; empty: none")


class Tune(Section):
    """Says which settings a sweep varies, and what it compares."""

    space: dict[str, dict[str, Any]] = key(
        {}, "by key, as train.lr: {loguniform: [1e-4, 1e-2]}; or choice: [...], uniform or int: [low, high]"
    )
    search: Literal["random", "grid", "optuna"] = key(
        "random", "grid: every combination of the choices and ints; optuna needs the extra [optuna]"
    )
    trials: int = key(8, "trials of a random or Optuna search", gt=0)
    metric: Literal["auto", "validation_loss", "validation_nll", "validation_residual", "validation_iou"] = (
        key(
            "auto",
            "what is compared, the lowest (iou: the highest); auto: validation_nll of images, else validation_loss",
        )
    )
    cost: Literal["none", "seconds_per_event"] = key(
        "none",
        "optuna: what is to be low as well, so that it searches the front of both; with scheduler none",
    )
    scheduler: Literal["asha", "none"] = key("asha", "asha stops trials that fall behind the others")
    patience: int = key(1, "asha: epochs before a trial may be stopped", gt=0)
    reduction: int = key(3, "asha: one in so many goes on past a rung; rungs grow by this factor", gt=1)
    concurrent: int | None = key(None, "trials at the same time; null: as many as the cluster holds", gt=0)

    @model_validator(mode="after")
    def _two_at_once(self) -> Self:
        if self.cost != "none" and (self.search != "optuna" or self.scheduler != "none"):
            raise ValueError(
                f"cost = {self.cost}: takes search=optuna and scheduler=none, which compares no trial by one number;"
                " the front of what any search has tried is in trials.csv"
            )
        return self
