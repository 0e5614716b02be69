"""How a trained network is called where it is asked: in which precision, and compiled or not.

Shapes: B event of a batch, "..." what a network takes or puts out of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn

from glitchflow.device import computed, lowered
from glitchflow.errors import InputError, RunError

# Events that a compiled network is asked about at once at the least: for fewer torch takes other convolutions on a CPU,
# which would be compiled too. And the first time: loops are laid out for that number, whatever the first batch is, on
# which the last bits would depend otherwise
LEAST = 16


@dataclass(frozen=True)
class Called:
    """Says the precision, as `train.precision` has them, and whether by torch.compile: section `infer`."""

    precision: str = "float32"
    compile: bool = False

    @classmethod
    def known(cls, about: Mapping[str, Any]) -> Self:
        """Take them of what is said of predictions (`told`)."""
        return cls(**{one.name: about[one.name] for one in fields(cls) if one.name in about})

    @property
    def told(self) -> dict[str, Any]:
        """What is said of predictions made so: nothing where they are as they always were."""
        return asdict(self) if self != PLAIN else {}

    def instead(self, kind: str) -> str:
        """Say in a line why a device of this kind computes otherwise; empty where it does not."""
        reason = computed(self.precision, kind)[1]
        return reason and f"infer.precision = {self.precision}: {reason}"

    def network(self, network: nn.Module, kind: str) -> nn.Module:
        """Return a network, on a device of this kind, as it is called."""
        precision, _ = computed(self.precision, kind)
        return Asked(network, precision, self.compile) if self.compile or precision != "float32" else network


PLAIN = Called()


def refuse_uncompiled(key: str, wanted: bool, network: nn.Module) -> None:
    """Raise `InputError` where a network that `key` may want compiled says why it is not."""
    if wanted and (reason := getattr(network, "uncompiled", "")):
        raise InputError(f"{key} = true: {reason}")


class Asked(nn.Module):
    """A network in a lower precision, or compiled: once, for batches of any size. (B, ...) -> (B, ...), both in the
    type of what is given."""

    def __init__(self, network: nn.Module, precision: str, compiled: bool) -> None:
        super().__init__()
        self.network, self.precision = network, precision
        self.compiled = torch.compile(network) if compiled else None
        self.laid_out = False

    def forward(self, given: Tensor) -> Tensor:
        """Ask it. Raises `RunError` where it cannot be compiled."""
        with lowered(self.precision, given.device.type):
            found = self.network(given) if self.compiled is None else self._compiled(given)
        return found.to(given.dtype)

    def _compiled(self, given: Tensor) -> Tensor:
        """What the compiled network says; of fewer events than `LEAST` with copies of the last one behind them."""
        from torch._dynamo import maybe_mark_dynamic  # the compiler, which takes a second to import
        from torch._dynamo.exc import TorchDynamoException

        assert self.compiled is not None
        if not self.laid_out:
            self.laid_out = True
            self._compiled(given[:1])
        copies = given[-1:].expand(max(0, LEAST - len(given)), *given.shape[1:])
        several = torch.cat([given, copies])
        # a network of a user's own that insists on sizes is compiled for each
        maybe_mark_dynamic(several, 0)
        try:
            return self.compiled(several)[: len(given)]
        except TorchDynamoException as error:
            first, *_ = str(error).split("\n\n")  # then comes advice to torch's makers
            reason = " ".join(first.split())[:200]
            raise RunError(f"infer.compile = true: torch.compile cannot: {reason}; leave it off") from error
