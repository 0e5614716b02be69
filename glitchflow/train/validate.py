"""Validation: loss and scores over a split, every event counted once, and a figure of samples.

Shapes: B batch of a rank, W witness, F frequency, T time; energies of the strain.
"""

from collections.abc import Callable

import torch
from matplotlib.figure import Figure

from glitchflow.data.batch import Batch
from glitchflow.figures import qplots as plots
from glitchflow.score import metrics
from glitchflow.train.setup import Learner

Forward = Callable[
    [Batch], tuple[torch.Tensor, torch.Tensor, torch.Tensor]
]  # batch -> loss, generated, target
FIRST = 64  # events of the split among which those to be drawn are looked for


@torch.no_grad()
def validate(
    learner: Learner, forward: Forward, between: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """The mean loss and the kind's scores, each event counted once over all workers.

    `forward` calls the network that is validated, not the wrapped one: ranks may have one batch more or less than
    others. A score without any event it is defined for is left out. `between` is called after each batch.
    """
    kind, world, loader = learner.kind, learner.world, learner.validation
    known = [name for name in kind.truth if name in loader.dataset]
    learner.average.eval()
    total = torch.zeros(2 + len(kind.tallied), dtype=torch.float64, device=world.device)
    for batch in loader.once(learner.train.batch, world.rank, world.size):
        loss, generated, target = forward(batch)
        truth = [torch.from_numpy(loader.dataset.events(name, batch.events)) for name in known]
        sums = kind.tally(learner.normalisation, generated, target, truth)
        total[0] += loss.double() * len(batch.events)
        counted = [len(batch.events), *(sums[name] for name in kind.tallied)]
        total[1:] += torch.tensor(counted, dtype=torch.float64).to(total.device)
        between()
    loss_sum, events, *tallied = world.add(total).tolist()
    return {"validation_loss": loss_sum / events} | kind.scores(dict(zip(kind.tallied, tallied)))


@torch.no_grad()
def samples(learner: Learner, forward: Forward, count: int, title: str) -> Figure:
    """Recorded, generated and residual Q-plots of some events, the same ones in every epoch: the loudest of each
    of `count` equal parts of (at most FIRST of) the split."""
    learner.average.eval()
    loader, energies = learner.validation, learner.kind.energies
    events = loader.events[:FIRST]
    values = loader.read(events).cpu()
    strain = values[:, 0].flatten(1).amax(1)
    loudest = [
        int(part[strain[part].argmax()])
        for part in torch.arange(len(events)).tensor_split(count)
        if len(part)
    ]
    _, generated, target = forward(loader.batch_of(events[loudest]))
    t, g = (energies(learner.normalisation, value).numpy() for value in (target, generated))
    f, s = learner.kind.axes(loader.dataset, learner.normalisation)
    names = [f"event {event}" for event in events[loudest]]
    return plots.event_gallery(t, g, metrics.subtract(t, g), names, f, s, title)
