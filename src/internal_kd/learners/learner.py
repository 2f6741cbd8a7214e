"""What a learner is: a frozen description that planning reads, and the network it builds.

Importing this module imports no torch, so a study of thousands of runs is planned in seconds.

| kind | shape | layers |
|---|---|---|
| ``logits`` | (B, C); of a token classifier (R, C), R tokens that count (rows.py) | 0 |
| ``cls`` | (B, D) | 0 (embedding output) to L |
| ``hidden`` | (B, n, D) | 0 (embedding output) to L |
| ``attention`` | (B, H, n, n) log-probabilities before dropout, fp32 | 1 to L |
| ``attention_lse`` | (B, H, n) logsumexp of each row of scores over real keys, fp32 | 1 to L |
| ``scores`` | (B, H, n, n) = attention + attention_lse, scaled by 1 / sqrt(head width), fp32 | 1 to L |
| ``queries``, ``keys``, ``values`` | (B, n, D), all heads concatenated, as the projections give them | 1 to L |
| ``path_log_likelihood`` | (B, C), of a soft tree: the sum over leaves of P(leaf) log Q(leaf) | 0 |
| ``imbalance`` | (B,), of a soft tree: how unevenly its gates divide | 0 |
| ``peer_logits`` | (B, C), of a pair: the logits of the other of the two | 0 |

B examples, n tokens (padding included), C columns of logits, D width, H heads, L layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from pydantic import ValidationError

from internal_kd.errors import UserError, named
from internal_kd.fields import Frozen
from internal_kd.messages import refusal
from internal_kd.registry import Registry, resolve

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

Wanted: TypeAlias = frozenset[tuple[str, int]]
Captured: TypeAlias = "dict[tuple[str, int], Tensor]"
# How a task's examples are read.
Form = Literal["tokens", "pixels", "sentences", "embeddings"]

LOGITS: Wanted = frozenset({("logits", 0)})
# The lowest layer that each kind has.
LOWEST = {
    **dict.fromkeys(("logits", "cls", "hidden", "path_log_likelihood", "imbalance", "peer_logits"), 0),
    **dict.fromkeys(("attention", "attention_lse", "scores", "queries", "keys", "values"), 1),
}
# Of soft decision trees alone, and of two learners that teach each other.
OF_TREES = frozenset({"path_log_likelihood", "imbalance"})
OF_PAIRS = frozenset({"peer_logits"})
EVERYTHING = frozenset(LOWEST) - OF_TREES - OF_PAIRS
# What does not depend on the number of heads.
STATES = frozenset({"logits", "cls", "hidden"})
# Learners whose runs train nothing: a model that was made elsewhere, and a part of a finished run.
UNTRAINED = frozenset({"finished", "subnetwork"})
# Where the config of an adaptive encoder has its widths and depths; its heads and neurons are ranked then.
RANKED = "adaptive"

LEARNERS: Registry[str] = Registry(
    "kind of learner",
    {
        "encoder": "internal_kd.learners.encoder:EncoderLearner",
        "finished": "internal_kd.learners.finished:FinishedModel",
        "mlp": "internal_kd.learners.small:MLPLearner",
        "cnn": "internal_kd.learners.small:CNNLearner",
        "text_cnn": "internal_kd.learners.small:TextCNNLearner",
        "soft_tree": "internal_kd.learners.small:SoftTreeLearner",
        "distilled_set": "internal_kd.learners.small:DistilledSetLearner",
        "pair": "internal_kd.learners.pair:PairLearner",
        "specialist": "internal_kd.learners.specialist:SpecialistLearner",
        "adaptive": "internal_kd.learners.adaptive:AdaptiveLearner",
        "subnetwork": "internal_kd.learners.adaptive:SubnetworkLearner",
    },
)


@dataclass(frozen=True)
class Shape:
    """The sizes of a network, as far as they are known; None is a size that nobody stated yet.

    Attributes:
        layers: encoder layers.
        width: of hidden states, D.
        heads: attention heads of a layer, H.
        inner: neurons between the two matrices of a layer's feed-forward part.
        family: transformers' ``model_type``; empty when unknown.
        hands_out: the kinds that its networks can hand out.
    """

    layers: int | None = None
    width: int | None = None
    heads: int | None = None
    inner: int | None = None
    family: str = ""
    hands_out: frozenset[str] = EVERYTHING


@dataclass(frozen=True)
class InputShape:
    """What one example is to a learner that starts from nothing.

    Attributes:
        form: ``pixels``, ``sentences``, ``embeddings`` or ``tokens``.
        size: (height, width, channels) of an image, (width,) of a sentence vector, (tokens, width) of word vectors,
            (vocabulary,) of token ids.
    """

    form: Form
    size: tuple[int, ...]

    @property
    def features(self) -> int:
        """How many numbers an example is."""
        return prod(self.size)


class ParameterCount(NamedTuple):
    """Sizes of a network, its classification head left out so that they compare across tasks and with the paper.

    Attributes:
        encoder: parameters of encoder layers and, where the base model has one, the pooler.
        total: the same with embeddings.
    """

    encoder: int
    total: int


class Network(ABC):
    """A torch module and how it is read; `Learner.build` and `Learner.load` return one.

    Attributes:
        module: what is trained and saved. Move it, cast it or put it into train mode as any module.
        layers, width, heads: L, D and H; 0 where they do not apply.
        hands_out: the kinds that `read` can return.
        turns: how often a batch is computed and the optimizer steps, each time for other weights.
        turn: whose turn it is, from 0.
        passes: how often a batch is computed before the optimizer steps, each time by another part of the weights;
            gradients add up.
        current: which of these passes it is, from 0.
        peer: the second network of a pair.
        subset: numbers of the classes of a specialist.
    """

    module: nn.Module
    layers: int
    width: int
    heads: int
    hands_out: frozenset[str]
    turns: int = 1
    turn: int = 0
    passes: int = 1
    current: int = 0
    peer: Network | None = None
    subset: tuple[int, ...] | None = None

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """The modules that are complete networks: ``module``, or the two of a pair."""
        return (self.module,)

    @abstractmethod
    def read(self, batch: Mapping[str, Tensor], wanted: Wanted = LOGITS) -> Captured:
        """Return exactly what is asked for, from one forward pass of ``module`` in the mode it is in.

        Without ``("logits", 0)`` the pass ends as soon as everything has been captured. What a batch carries besides
        the module's inputs (labels, ids) is ignored. Under several processes call this from inside the ``forward`` of
        the module that is distributed, so that gradients are exchanged.

        Args:
            batch: ``input_ids`` (B, n), ``attention_mask`` (B, n) with 1 for real tokens, and so on.
            wanted: pairs of a kind and a layer.

        Raises:
            UserError: something asked for does not exist, or the pass did not compute it.

        Example:
            >>> captured = network.read(batch, frozenset({("logits", 0), ("hidden", 2)}))  # doctest: +SKIP
            >>> captured["hidden", 2].shape  # doctest: +SKIP
            torch.Size([32, 64, 768])
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write everything that `Learner.load` needs into a folder."""

    @abstractmethod
    def count_parameters(self) -> ParameterCount:
        """Count parameters without the classification head."""

    def begin(self, batches: Callable[[], Iterable[Mapping[str, Tensor]]]) -> None:  # noqa: B027
        """See the training examples, batch by batch and as often as it calls, before training; most do not look."""

    def choose(self, positions: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        """Return which training examples it is trained on, by their positions and labels: all, but for specialists."""
        return positions

    def constrain(self) -> None:  # noqa: B027
        """Put weights back into their limits after a step; most networks have none."""

    def freeze(self) -> Network:
        """Put the module into eval mode for good and take its parameters out of training; returns self.

        Calling ``train()`` on it, or on a module that contains it, no longer turns its dropout on.
        """
        self.module.eval().requires_grad_(False)
        self.module.__dict__["train"] = MethodType(_stay_in_eval, self.module)
        return self


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


# Where a network's first weights come from, or the shape of its inputs if it starts from nothing.
Source: TypeAlias = "Path | nn.Module | InputShape | None"


class Learner(Frozen):
    """A description of something that can learn: a frozen pydantic model, whose module imports no torch."""

    kind: str

    @property
    def hands_out(self) -> frozenset[str]:
        """Return the kinds that its networks hand out; `shape` narrows them for a given source."""
        return frozenset({"logits"})

    @property
    @abstractmethod
    def short_name(self) -> str:
        """Return its shape as a short text for paths and tables."""

    @property
    @abstractmethod
    def starts_from(self) -> str:
        """Return where first weights come from: ``encoder``, ``teacher``, ``random``, ``nothing`` or a method's name.

        ``random`` takes sizes from an encoder, ``nothing`` takes nothing.
        """

    @property
    def draws(self) -> bool:
        """Return whether first weights, the head's left out, depend on the seed."""
        return False

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what determines the network and is not a default: equal dicts build equal networks."""

    def form(self, images: bool) -> Form:
        """Return how it reads a task of images, or of texts.

        Raises:
            UserError: it cannot, as ``<key>: <reason>``.
        """
        if images:
            raise UserError(
                f"kind: {self.kind!r} reads texts, and this is a task of images; choose mlp, cnn or soft_tree"
            )
        return "tokens"

    def check_inputs(self, inputs: InputShape) -> None:
        """Refuse inputs that are too small for it, by UserError; most learners read any."""

    @abstractmethod
    def shape(self, source: Shape) -> Shape:
        """Return the sizes of the network built from a source of the given sizes.

        Raises:
            UserError: the two do not fit, as ``<key>: <reason>``.
        """

    @abstractmethod
    def build(
        self, source: Source, outputs: int, seed: int, *, labels: Sequence[str] = (), kind: str = "classes"
    ) -> Network:
        """Return a network with its first weights, in eval mode and fp32.

        Args:
            source: a folder with weights, a plain model, or the shape of its inputs for one that starts from nothing.
            outputs: columns of logits; 1 for values.
            seed: what is drawn is drawn from it; the global random state stays untouched.
            labels: names of the classes in the order of the columns, saved with the network.
            kind: of the task, a key of ``KINDS``.

        Raises:
            UserError: the source cannot be read or does not fit.
        """

    @abstractmethod
    def load(self, folder: Path, outputs: int, *, labels: Sequence[str] = ()) -> Network:
        """Return a network as `Network.save` wrote it, in eval mode.

        Args:
            folder: where it was saved.
            outputs: columns of logits; 1 for values.
            labels: names of the classes in the order of the columns, by which models made elsewhere are matched.

        Raises:
            UserError: the folder cannot be read or has another number of outputs.
        """


def parse_learner(values: Mapping[str, Any], where: str = "learner") -> Learner:
    """Return the learner that a mapping describes; its ``kind`` chooses the class, ``encoder`` when it is left out.

    Raises:
        UserError: the kind is unknown, or a key is unknown, missing or has a wrong value: ``learner.width: ...``.

    Example:
        >>> parse_learner({"layers": 6, "start": {"from": "teacher"}}).identity()
        {'layers': 6, 'start': {'from': 'teacher'}}
    """
    kind = values.get("kind", "encoder")
    with named(f"{where}.kind"):
        described: type[Learner] = resolve(LEARNERS[str(kind)])
    try:
        return described.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(refusal(error.errors(include_url=False), values, where)) from None


def check_wanted(wanted: Iterable[tuple[str, int]], layers: int, hands_out: frozenset[str], what: str) -> None:
    """Refuse kinds and layers that a network does not have.

    Raises:
        UserError: the first pair that does not exist.
    """
    for kind, layer in sorted(wanted):
        if kind not in hands_out:
            raise UserError(f"{kind!r} was asked of {what}, which hands out {', '.join(sorted(hands_out))}")
        lowest, highest = LOWEST.get(kind, 0), 0 if kind == "logits" else layers
        if not lowest <= layer <= highest:
            raise UserError(f"{kind} of layer {layer} does not exist; {what} has layers {lowest} to {highest}")
