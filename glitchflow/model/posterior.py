"""The network of a posterior twin: a witnessed part in noise, and what witnesses say of it -> the witnessed part.

    what a coherent twin says, y, and its power nearby, v --+
    x - y in noise --amplitudes of templates (`amplitudes`)--+--> the mean under a prior that is known in closed form
    all of this, and the witnesses --U-Net (flow.py)--> what is to be added to it

The closed form is the answer where what is not known is Gaussian about y, with a variance that follows y's power, and
where the templates' amplitudes are as likely as fits to the train split make them: a scatterer's light has a size and
no phase that a witness knows. What the U-Net adds is nothing before it is trained.

Shapes: B event, N sample, A template, J amplitude that was found, C input. Rows (B, 3 + A + C, N): what is told; x; y;
templates; inputs, as a coherent twin's. Series are white, of the noise's unit.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glitchflow.model.bank import Coherent
from glitchflow.model.flow import LEVEL, REACH, STRIDE, TOLD, Flow

ABOUT, X, MEAN, REST = range(4)  # where rows have what is told, x, y, and templates before inputs
SHOWN = 6  # rows that the U-Net sees beside templates and inputs: five that are made of x and y, and the time
FOUND = 256  # amplitudes that are kept of the train split
LOCAL = 0.125  # s over which y's power is taken
LEAST, STEPS, STEP = -4.0, 15, 0.5  # powers of 10 by which it counts: from 1e-4 to 1e3, in so many steps
SILENT = 1e-4  # variance of what is not known that is divided by


class Posterior(nn.Module):
    """Says in the mean what is clean of a witnessed part in noise at any level of it, and how much that counts.

    `witnesses` counts the rows that it is given. Its `mean` is a coherent twin's network of these settings, which is
    not trained. Raises ValueError as `Flow` and `Coherent` do.
    """

    uncompiled = Flow.uncompiled

    def __init__(
        self,
        witnesses: int,
        shape: Sequence[int],
        width: int = 16,
        norm: str = "group",
        samples: int = 0,
        templates: int = 0,
        rate: float = 512.0,
        highest: float | None = None,
        steady: int = 0,
        mean_width: int = 16,
        experts: int = 8,
        sensors: int = 8,
    ):
        super().__init__()
        self.mean = Coherent(
            witnesses - REST, shape, mean_width, templates, rate, highest, experts, sensors, steady
        ).requires_grad_(False)
        self.flow = Flow(1, shape, width, norm, samples)
        first = self.flow.stem.out_channels
        self.flow.stem = nn.Conv1d(SHOWN + witnesses - REST, first, REACH, STRIDE, STRIDE // 2)
        self.templates, self.samples, self.local = (
            templates,
            self.flow.samples,
            2 * round(LOCAL * rate / 2) + 1,
        )
        self.register_buffer(
            "errors", torch.zeros(STEPS)
        )  # logarithms of y's mean square error, by y's power
        self.register_buffer("found", torch.zeros(FOUND, templates))
        self.register_buffer("spread", torch.ones(()))  # of an amplitude about each that was found

    def draw(self, generator: torch.Generator) -> None:
        """Draw what `initialise` does not know of; what is added to something begins as nothing."""
        self.mean.draw(generator)
        self.flow.draw(generator)

    def place(self, y: Tensor) -> Tensor:
        """Return where on the steps of power each sample of y (B, N) is: 0 to `STEPS` - 1."""
        power = F.avg_pool1d(y.square()[:, None], self.local, 1, self.local // 2, count_include_pad=False)[
            :, 0
        ]
        return ((power.clamp_min(10.0**LEAST).log10() - LEAST) / STEP).clamp(0, STEPS - 1)

    def unknown(self, y: Tensor) -> Tensor:
        """Return the variance (B, N) of what is not known of each sample, beside templates, given y (B, N)."""
        place, errors = self.place(y), self.get_buffer("errors")
        below = place.floor().clamp(max=STEPS - 2).long()
        return torch.lerp(errors[below], errors[below + 1], (place - below).to(errors)).exp().to(y)

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (B, 3 + A + C, N) to what is clean in the mean, and the weight of a sample's error (B, 2, N)."""
        told, x, y = rows[:, ABOUT, :TOLD].float(), rows[:, X], rows[:, MEAN]
        templates, inputs = rows[:, REST:].split([self.templates, rows.shape[1] - REST - self.templates], 1)
        power = told[:, LEVEL, None].clamp_min(1e-3).to(x.dtype).square()
        variance = self.unknown(y)
        fitted = self._fitted(templates, x - y, variance + power)
        share = variance / (variance + power)
        closed = share * (x - y) + (1 - share) * fitted
        swing = self.get_buffer("found").square().mean(0) + self.get_buffer("spread").square()
        reach = variance + (swing[:, None] * templates.square()).sum(1)  # of a sample, before x is known
        size, unsure = (reach + power).sqrt(), (reach * power / (reach + power)).sqrt()
        seen = [(x - y) / size, closed / size, fitted / size, y / variance.sqrt(), reach.log() / 4]
        shown = [templates * (swing.sqrt()[:, None] / reach[:, None].sqrt()), inputs.asinh()]
        added = self.flow.inner(torch.cat([torch.stack(seen, 1), *shown], 1), told)[:, 0]
        return torch.stack([y + closed + unsure * added.to(x.dtype), 1 / unsure.square()], 1)

    def begin(self, given: Tensor, chosen: Tensor, about: Tensor, noise: Tensor, level: float) -> Tensor:
        """Make x (B, N) at a level as the prior in closed form has it, of y, templates and inputs (B, 1 + A + C, N).

        chosen: which amplitude (B,) of those found; about: white (B, A); noise: white (B, N).
        """
        y, templates = given[:, 0], given[:, 1 : 1 + self.templates]
        found, spread = self.get_buffer("found"), self.get_buffer("spread")
        size = found[chosen] + spread * about
        light = (size[:, None].to(templates) @ templates)[:, 0]
        return y + light + (self.unknown(y) + level**2).sqrt() * noise

    def _fitted(self, templates: Tensor, rest: Tensor, variance: Tensor) -> Tensor:
        """What templates (B, A, N) put in the mean into rest (B, N), in noise of this variance (B, N)."""
        if not self.templates:
            return torch.zeros_like(rest)
        with torch.no_grad(), torch.autocast(rest.device.type, enabled=False):
            series = (templates.double(), rest.double(), variance.double())
            amplitudes = in_the_mean(
                *series, self.get_buffer("found").double(), self.get_buffer("spread").double()
            )
            return (amplitudes[:, None] @ series[0])[:, 0].to(rest)


def in_the_mean(templates: Tensor, rest: Tensor, variance: Tensor, found: Tensor, spread: Tensor) -> Tensor:
    """Return the mean amplitudes (B, A) of templates (B, A, N) in rest (B, N), in noise of this variance (B, N).

    Before rest is known they are a normal law of this spread about each that was found (J, A), which are as likely; of
    one alone, at 0, this is the ridge fit (`twin/ridge.py`). A mixture of conjugate normal laws stays one, of other
    weights: Bishop 2006, Pattern Recognition and Machine Learning, section 2.3.
    """
    heard = templates / variance[:, None]
    unit = torch.eye(templates.shape[1], dtype=rest.dtype, device=rest.device) / spread**2
    inverse = torch.linalg.inv_ex(heard @ templates.mT + unit).inverse
    pull = (heard @ rest[..., None]).mT + found / spread**2  # (B, J, A)
    means = pull @ inverse
    likely = (pull * means).sum(-1) / 2 - (found / spread).square().sum(-1) / 2
    return (likely.softmax(-1)[:, None] @ means)[:, 0]
