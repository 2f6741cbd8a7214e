"""Two learners that are trained in one run and teach each other (deep mutual learning).

Each takes its turn on every batch: it reads the newest answers of the other, as ``peer_logits``, and steps. Importing
this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from internal_kd.errors import UserError
from internal_kd.learners.learner import (
    LOGITS,
    OF_PAIRS,
    OF_TREES,
    Captured,
    Form,
    InputShape,
    Learner,
    Network,
    ParameterCount,
    Shape,
    Source,
    Wanted,
    check_wanted,
    parse_learner,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

# Where the second learner of a run lies in its folder: its weights in ``model/``, and its predictions.
PEER_FOLDER = "peer"
PEER_PREDICTIONS = "predictions_peer"
# The second learner's seed is this far from the run's, so that two equal ones begin with different weights.
APART = 1000


def _member(value: Any) -> Any:
    try:
        return parse_learner(value, "of") if isinstance(value, Mapping) else value
    except UserError as error:
        raise ValueError(str(error)) from None


Member = Annotated[SerializeAsAny[Learner], BeforeValidator(_member)]


class PairLearner(Learner):
    """Two learners in one run that answer each other's examples: deep mutual learning (Zhang et al. 2018).

    Terms that read ``peer_logits`` make them teach each other; without one they learn alone. The run's predictions and
    its exported model are those of the first; the second has files of its own, and the report's table `peers` has both.

    Example:
        >>> PairLearner(of=({"kind": "mlp", "widths": [300]}, {"kind": "mlp", "widths": [30]})).short_name
        'mlp300-and-mlp30'
    """

    hands_out: ClassVar[frozenset[str]] = frozenset({"logits"}) | OF_PAIRS
    draws: ClassVar[bool] = True  # those of the head do
    kind: Literal["pair"] = "pair"
    of: tuple[Member, Member] = Field(
        description="the two learners; they read a task in the same way and start alike: from the encoder, at random, "
        "or from nothing"
    )

    @property
    def short_name(self) -> str:
        """Return both shapes as a short text: ``L6-and-L3``."""
        return "-and-".join(one.short_name for one in self.of)

    @property
    def starts_from(self) -> str:
        """Return where first weights come from: ``encoder``, ``random`` or ``nothing``."""
        return self.of[0].starts_from

    def identity(self) -> dict[str, Any]:
        """Return the kind and what determines each of the two."""
        return {"kind": self.kind, "of": [one.identity() for one in self.of]}

    def form(self, images: bool) -> Form:
        """Return how both read a task, as `Learner.form` does."""
        for one in self.of:
            if one.kind in ("finished", "pair") or one.hands_out & OF_TREES:
                raise UserError(f"of: a {one.kind} cannot learn in a pair; name encoders, perceptrons or cnns")
        first, second = (one.form(images) for one in self.of)
        if first != second:
            raise UserError(f"of: one reads {first} and the other {second}; let both read the same")
        starts = [one.starts_from for one in self.of]
        if ("nothing" in starts and starts[0] != starts[1]) or not {*starts} <= {"encoder", "random", "nothing"}:
            raise UserError(
                f"of: first weights come from {starts[0]!r} and {starts[1]!r}; start both from `encoder` or `random`, "
                "or name two that start from nothing"
            )
        return first

    def check_inputs(self, inputs: InputShape) -> None:
        """Refuse inputs that are too small for one of them."""
        for one in self.of:
            one.check_inputs(inputs)

    def shape(self, source: Shape) -> Shape:
        """Return the sizes of the first, as `Learner.shape` does; layers of a pair cannot be compared."""
        first, _ = (one.shape(source) for one in self.of)
        return replace(first, hands_out=self.hands_out)

    def build(
        self, source: Source, outputs: int, seed: int, *, labels: Sequence[str] = (), kind: str = "classes"
    ) -> PairNetwork:
        """Return both, the first as it would be alone, as `Learner.build` does."""
        first, second = self.of
        return PairNetwork(
            first.build(source, outputs, seed, labels=labels, kind=kind),
            second.build(source, outputs, seed + APART, labels=labels, kind=kind),
        )

    def load(self, folder: Path, outputs: int, *, labels: Sequence[str] = ()) -> Network:
        """Return the first, in eval mode, as `Learner.load` does."""
        return self.of[0].load(folder, outputs, labels=labels)


class PairNetwork(Network):
    """Two networks that take turns to learn; in eval mode it is the first.

    ``peer_logits`` are the other's logits in the mode it is in, without a gradient.
    """

    hands_out = PairLearner.hands_out
    turns = 2

    def __init__(self, first: Network, peer: Network) -> None:
        """Take two networks; they are trained in place."""
        from torch import nn

        self.first = first
        self.peer: Network = peer
        self.module = nn.ModuleList([first.module, peer.module])
        self.layers, self.width, self.heads = first.layers, first.width, first.heads

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """The two modules."""
        return self.first.module, self.peer.module

    def read(self, batch: Mapping[str, Tensor], wanted: Wanted = LOGITS) -> Captured:
        """Return what is asked for of the one whose turn it is, as `Network.read` describes."""
        import torch

        check_wanted(wanted, 0, self.hands_out, "a pair")
        own, other = self.first, self.peer
        if self.module.training and self.turn == 1:
            own, other = other, own
        found = own.read(batch) if LOGITS & wanted else {}
        if ("peer_logits", 0) in wanted:
            with torch.no_grad():
                found["peer_logits", 0] = other.read(batch)["logits", 0]
        return found

    def begin(self, batches: Callable[[], Iterable[Mapping[str, Tensor]]]) -> None:
        """Let both see the training examples, as `Network.begin` describes."""
        self.first.begin(batches)
        self.peer.begin(batches)

    def constrain(self) -> None:
        """Put the weights of both back into their limits."""
        self.first.constrain()
        self.peer.constrain()

    def save(self, folder: Path) -> None:
        """Write the first as it would be alone, and the second into ``peer/``."""
        self.first.save(folder)
        self.peer.save(folder / PEER_FOLDER)

    def count_parameters(self) -> ParameterCount:
        """Count the parameters of the first."""
        return self.first.count_parameters()
