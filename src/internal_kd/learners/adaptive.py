"""Width- and depth-adaptive encoders: one run is trained at several sizes, and each of them can be taken out of it.

Hou et al. 2020, DynaBERT: Dynamic BERT with Adaptive Width and Depth (arXiv 2004.04037). A width is a share of the
attention heads and of the feed-forward neurons, the first ones of every layer, which are ranked by importance before
training; a depth is a share of the layers. Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from internal_kd.errors import UserError
from internal_kd.fields import Name, Number, unique
from internal_kd.learners.encoder import EncoderLearner, Start
from internal_kd.learners.learner import STATES, Learner, Network, Shape, Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Part = Annotated[Number, Field(gt=0, le=1)]


def _descending(values: tuple[float, ...]) -> tuple[float, ...]:
    if 1.0 not in unique(values):
        raise ValueError("have to contain 1, the full size")
    return tuple(sorted(values, reverse=True))


Parts = Annotated[tuple[Part, ...], Field(min_length=1), AfterValidator(_descending)]


def share_of(share: float, count: int) -> int:
    """Return a share of so many heads, neurons or layers, rounded to the nearest, of two to the even one."""
    return round(share * count)


def kept_layers(layers: int, depth: float) -> tuple[int, ...]:
    """Return the layers of a sub-network, from 0: floor(i / depth) for every i below round(depth * layers).

    Example:
        >>> kept_layers(12, 0.5), kept_layers(12, 0.75)
        ((0, 2, 4, 6, 8, 10), (0, 1, 2, 4, 5, 6, 8, 9, 10))
    """
    return tuple(int(number / depth) for number in range(share_of(depth, layers)))


class AdaptiveLearner(EncoderLearner):
    """An encoder that is trained at several widths and depths at once, full size included (DynaBERT, Hou et al. 2020).

    Every step adds up the gradients of all widths at all depths. Dev scores, predictions and the exported model are
    those of full size; a learner of kind `subnetwork` is a row of its own for another one. A layer that a depth skips
    hands on what it was given, so hidden states of all layers exist, and `layer_map` chooses which are compared:
    DynaBERT's inputs of kept layers and last output, of 12 layers at depths 1 and 0.5, are
    `[null, 2, null, 4, null, 6, null, 8, null, 10, null, 12]`. Attention is not handed out, since heads differ, and
    cheap blocks (`rank` to `kept_heads`) are refused.

    Example:
        >>> AdaptiveLearner(widths=(0.5, 1.0), depths=(1.0, 0.75, 0.5)).short_name
        'all-2x3'
    """

    kind: Literal["adaptive"] = "adaptive"  # type: ignore[assignment]
    widths: Parts = Field((1.0, 0.75, 0.5, 0.25), description="shares of heads and of feed-forward neurons; 1 is one")
    depths: Parts = Field((1.0,), description="shares of layers; 1 is one")
    start: Start = Field(
        default_factory=lambda: Start.model_validate("teacher"),
        description="where first weights come from; heads and neurons are ranked on the training examples, unless they "
        "are an adaptive run's",
    )

    @model_validator(mode="after")
    def _has_plain_layers(self) -> AdaptiveLearner:
        if self.has_blocks:
            raise ValueError("has no cheap blocks: leave out `rank`, `groups`, `shared_keys` and `kept_heads`")
        return self

    @property
    def hands_out(self) -> frozenset[str]:
        """Return the kinds that objectives may read, those that all of its sub-networks have."""
        return STATES

    @property
    def short_name(self) -> str:
        """Return its shape and how many sizes there are: ``all-4x3`` for four widths and three depths."""
        return f"{super().short_name}-{len(self.widths)}x{len(self.depths)}"

    def identity(self) -> dict[str, Any]:
        """Return the kind, and the fields that are not defaults and have an effect."""
        return {"kind": self.kind, **super().identity()}

    def shape(self, source: Shape) -> Shape:
        """Return the sizes as an encoder does; sub-networks that are empty, or equal, are refused."""
        shape = super().shape(source)
        for name in ("widths", "depths"):
            seen: dict[tuple[int | None, ...], float] = {}
            for share in getattr(self, name):
                part = part_of(shape, *((share, 1.0) if name == "widths" else (1.0, share)))
                counts = (part.layers, part.heads, part.inner)
                if None not in counts and (first := seen.setdefault(counts, share)) != share:
                    layers, heads, inner = counts
                    raise UserError(
                        f"{name}: {first:g} and {share:g} are both {layers} layers of {heads} heads and {inner} "
                        "neurons; leave one out"
                    )
        return shape

    def network(self, model: PreTrainedModel) -> Network:
        """Return the network of a model with first weights."""
        from internal_kd.learners.subnetworks import AdaptiveNetwork

        return AdaptiveNetwork(model, self.widths, self.depths)


def part_of(source: Shape, width: float, depth: float) -> Shape:
    """Return the sizes of a sub-network as far as they are known; its heads are those that are left.

    Raises:
        UserError: nothing is left of the heads, the neurons or the layers.
    """
    sizes = {"heads": (width, source.heads), "inner": (width, source.inner), "layers": (depth, source.layers)}
    found: dict[str, int | None] = {}
    for name, (share, count) in sizes.items():
        found[name] = None if count is None else share_of(share, count)
        if found[name] == 0:
            raise UserError(f"{'depth' if name == 'layers' else 'width'} {share:g}: leaves nothing of {count} {name}")
    return replace(source, **found)  # type: ignore[arg-type]


class SubnetworkLearner(Learner):
    """A part of a finished adaptive run, as a row of its own: nothing is trained, it is scored, timed and exported.

    Example:
        >>> SubnetworkLearner(of="adaptive", width=0.5, depth=0.75).short_name
        'w0.5d0.75'
    """

    kind: Literal["subnetwork"] = "subnetwork"
    of: Name = Field(description="the adaptive run, a method; its run of the same seed")
    width: Part = Field(1.0, description="share of heads and feed-forward neurons, one that it was trained at")
    depth: Part = Field(1.0, description="share of layers, one that it was trained at")

    @property
    def hands_out(self) -> frozenset[str]:
        """Return what its network hands out as a teacher."""
        return STATES

    @property
    def short_name(self) -> str:
        """Return width and depth: ``w0.5d0.75``."""
        return f"w{self.width:g}d{self.depth:g}"

    @property
    def starts_from(self) -> str:
        """Return the adaptive method."""
        return self.of

    @property
    def has_blocks(self) -> bool:
        """Return whether it has fewer heads than a plain encoder of its width."""
        return self.width < 1

    def identity(self) -> dict[str, Any]:
        """Return everything."""
        return self.model_dump(mode="json")

    def shape(self, source: Shape) -> Shape:
        """Return the sizes of the part; heads are the source's, as those left out have their place."""
        return replace(part_of(source, self.width, self.depth), heads=source.heads, hands_out=self.hands_out)

    def build(
        self, source: Source, outputs: int, seed: int, *, labels: Sequence[str] = (), kind: str = "classes"
    ) -> Network:
        """Return the part of the adaptive run in ``source``, its folder."""
        if not isinstance(source, Path):
            raise UserError("a sub-network is taken out of the folder of an adaptive run")
        return self.taken_from(EncoderLearner().load(source / "model", outputs, labels=labels))

    def taken_from(self, network: Network) -> Network:
        """Return the part of an encoder whose heads and neurons are ranked; the encoder is cut in place."""
        from internal_kd.learners.capture import network_of
        from internal_kd.learners.subnetworks import cut

        return network_of(cut(network.module, self.width, self.depth))  # type: ignore[arg-type]

    def load(self, folder: Path, outputs: int, *, labels: Sequence[str] = ()) -> Network:
        """Return the part, in eval mode, as `Learner.load` does."""
        return EncoderLearner().load(folder, outputs, labels=labels)
