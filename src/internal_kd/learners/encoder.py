"""The encoder as a learner: how deep and wide it is, and where its first weights come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from internal_kd.errors import UserError
from internal_kd.fields import Count, Frozen, Name, Whole
from internal_kd.learners.families import family_of
from internal_kd.learners.layers import choose_layers
from internal_kd.learners.learner import EVERYTHING, RANKED, STATES, InputShape, Learner, Network, Shape, Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Start(Frozen):
    """Where first weights come from; ``start: random`` is short for ``start: {from: random}``."""

    from_: Name = Field(
        "encoder",
        alias="from",
        description="encoder (pre-trained), teacher (fine-tuned), random, or a method (its run of the seed)",
    )
    layers: Literal["first", "every_other", "spread", "last"] | tuple[Count, ...] = Field(
        "first", description="which of the source's layers"
    )
    slice: Literal["importance", "random"] = Field(
        "importance",
        description="what a narrower learner keeps, and what cheap blocks begin as: as close to the source "
        "as they can; random draws both from the seed",
    )
    reinitialize: Whole = Field(
        0, description="top layers that are drawn again, and with them the pooler (Zhang et al. 2021)"
    )

    @model_validator(mode="before")
    @classmethod
    def _as_in_yaml(cls, values: Any) -> Any:
        return {"from": values} if isinstance(values, str) else values


class EncoderLearner(Learner):
    """An encoder with a classification head, at most as large as its source.

    Example:
        >>> EncoderLearner(layers=4, width=312).shape(Shape(layers=12, width=768, heads=12, inner=3072)).inner
        1248
    """

    kind: Literal["encoder"] = "encoder"
    layers: Count | Literal["all"] = Field("all", description="`all`, or how many")
    width: Count | None = Field(None, description="of hidden states; the source's if left out")
    heads: Count | None = Field(None, description="of attention, which divide the width; the source's if left out")
    inner: Count | None = Field(None, description="neurons of the feed-forward part; in proportion if left out")
    rank: Count | None = Field(None, description="of the feed-forward maps, each two thinner ones; full if left out")
    groups: Count = Field(1, description="of neurons, each reading a part of the width, or of the rank")
    shared_keys: Count = Field(1, description="neighbouring layers with the same queries and keys, such as 2")
    kept_heads: Count | None = Field(None, description="heads that are left, each as wide as before; all if left out")
    start: Start = Field(default_factory=Start, description="where first weights come from")

    @property
    def hands_out(self) -> frozenset[str]:
        """Return the kinds that objectives may read: all; without some heads, logits and states."""
        return EVERYTHING if self.kept_heads is None else STATES

    @property
    def short_name(self) -> str:
        """Return its shape as a short text for paths and tables: ``L6``, ``L4x312``, ``all``, ``L6r48``."""
        layers = "all" if self.layers == "all" else f"L{self.layers}"
        cheap = [("r", self.rank or 1), ("g", self.groups), ("k", self.shared_keys), ("h", self.kept_heads or 1)]
        sizes = "".join(f"{letter}{size}" for letter, size in cheap if size > 1)
        return layers + (f"x{self.width}" if self.width else "") + sizes

    @property
    def has_blocks(self) -> bool:
        """Return whether its layers are cheaper than those of a plain encoder of its sizes."""
        return self.rank is not None or self.groups > 1 or self.shared_keys > 1 or self.kept_heads is not None

    @property
    def starts_from(self) -> str:
        """Return where first weights come from: ``encoder``, ``teacher``, ``random`` or a method's name."""
        return self.start.from_

    @property
    def draws(self) -> bool:
        """Return whether first weights, the head's left out, depend on the seed."""
        at_random = (self.groups > 1 and self.rank is None) or (self._sliced and self.start.slice == "random")
        return self.start.from_ == "random" or at_random or self.start.reinitialize > 0

    @property
    def _sliced(self) -> bool:
        return self.has_blocks or not (self.width is self.heads is self.inner is None)

    def identity(self) -> dict[str, Any]:
        """Return the fields that are not defaults and have an effect."""
        values = self.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        if self.start.from_ == "random":
            values["start"] = {"from": "random"}
        elif not self._sliced:
            values.get("start", {}).pop("slice", None)
        return {key: value for key, value in values.items() if value != {}}

    def shape(self, source: Shape) -> Shape:
        """Return the sizes of the network built from a source of these sizes, as `Learner.shape` does.

        Sizes that are not known yet are not checked.
        """
        layers = source.layers if self.layers == "all" else self.layers
        width = self.width or source.width
        heads = self.heads or source.heads
        inner = self.inner or source.inner
        if self.inner is None and source.inner and width and source.width:
            inner = max(1, source.inner * width // source.width)
        shape = Shape(layers, width, heads, inner, source.family, self.hands_out)
        if width and heads and width % heads:
            raise UserError(f"width {width}: {heads} heads do not divide it")
        self._require_blocks(shape)
        if self.start.from_ != "random":
            self._require_fit(source, shape)
        if layers is not None and self.start.reinitialize > layers:
            raise UserError(f"start.reinitialize {self.start.reinitialize}: the learner has {layers} layers")
        return shape

    def _require_blocks(self, shape: Shape) -> None:
        """Refuse cheap blocks that do not divide a network, or are not cheaper."""
        largest = min(size for size in (shape.width, shape.inner, 10**9) if size)
        if self.rank and self.rank > largest:
            raise UserError(f"rank {self.rank}: is more than the {largest} that the smaller side of a map has")
        divided = {"rank": self.rank} if self.rank else {"width": shape.width}
        for name, size in {**divided, "inner": shape.inner}.items():
            if size and size % self.groups:
                raise UserError(f"groups {self.groups}: do not divide {name} {size}")
        if self.kept_heads and shape.heads and self.kept_heads > shape.heads:
            raise UserError(f"kept_heads {self.kept_heads}: is more than the {shape.heads} heads that there are")
        if shape.layers and shape.layers % self.shared_keys:
            raise UserError(f"shared_keys {self.shared_keys}: do not divide the {shape.layers} layers")

    def _require_fit(self, source: Shape, shape: Shape) -> None:
        """Refuse what cannot be cut out of a source."""
        if source.layers is not None and shape.layers is not None:
            try:
                choose_layers(self.start.layers, source.layers, shape.layers)
            except UserError as error:
                raise UserError(f"start.layers: {error}") from None
        for name in ("width", "heads", "inner"):
            own, largest = getattr(shape, name), getattr(source, name)
            if own and largest and own > largest:
                raise UserError(f"{name} {own}: the source has {largest}; choose at most that, or start: random")
        if shape.width and shape.heads and source.width and source.heads:
            head, largest = shape.width // shape.heads, source.width // source.heads
            if head > largest:
                raise UserError(
                    f"heads {shape.heads}: heads of {head} cannot be cut out of heads of {largest}; choose at least "
                    f"{-(-shape.width // largest)} heads, or start: random"
                )

    def build(
        self, source: Source, outputs: int, seed: int, *, labels: Sequence[str] = (), kind: str = "classes"
    ) -> Network:
        """Return an encoder with its first weights, as `Learner.build` does.

        From the pre-trained encoder, and from a run with another number of outputs, the head is drawn from ``seed``;
        from any other run pooler and head are kept. For ``random`` only the source's config is read.

        Example:
            >>> learner = EncoderLearner(layers=6, start={"from": "encoder", "layers": "every_other"})
            >>> network = learner.build(Path("data/encoders/bert"), 2, seed=1)  # doctest: +SKIP
        """
        from internal_kd.learners.blocks import Blocks, closest, drawn, install, multiplied_out
        from internal_kd.learners.configs import shape_of_config
        from internal_kd.learners.slices import cut_student, drawn_student
        from internal_kd.learners.weights import name_labels, seeded

        model = multiplied_out(self._source(source, outputs, seed, kind))
        full = shape_of_config(model.config.to_dict(), str(source) if isinstance(source, Path) else "this model")
        shape = self.shape(full)
        if self.start.from_ == "random":
            student = drawn_student(model, shape, outputs, seed)
        else:
            assert full.layers and shape.layers
            student = cut_student(
                model,
                shape,
                choose_layers(self.start.layers, full.layers, shape.layers),
                outputs,
                at_random=self.start.slice == "random",
                reinitialize=self.start.reinitialize,
                seed=seed,
            )
        if self.has_blocks:
            at_random = "random" in (self.start.from_, self.start.slice)
            blocks = Blocks(self.rank, self.groups, self.shared_keys, self.kept_heads)
            with seeded(seed):
                install(student, blocks, drawn if at_random else closest)
        name_labels(student, labels)
        return self.network(student)

    def network(self, model: PreTrainedModel) -> Network:
        """Return the network of a model with first weights."""
        from internal_kd.learners.capture import network_of

        vars(model.config).pop(RANKED, None)  # what an adaptive source noted about itself
        return network_of(model)

    def _source(self, source: Source, outputs: int, seed: int, kind: str) -> PreTrainedModel:
        from internal_kd.learners.weights import classifier_on_meta, load_classifier, stored_outputs

        if source is None or isinstance(source, InputShape):
            raise UserError("an encoder is built from a folder or a model: its sizes and first weights")
        if not isinstance(source, str | Path):
            model: PreTrainedModel = source  # type: ignore[assignment]
            family_of(model.config.model_type)
            return model
        if self.start.from_ == "random":
            return classifier_on_meta(source, kind)
        new_head = self.start.from_ == "encoder" or stored_outputs(source) != outputs
        return load_classifier(source, outputs, seed=seed, new_head=new_head, kind=kind)

    def load(self, folder: Path, outputs: int, *, labels: Sequence[str] = ()) -> Network:
        """Return a finished encoder, in eval mode, as `Learner.load` does."""
        from internal_kd.learners.capture import network_of
        from internal_kd.learners.weights import load_classifier

        return network_of(load_classifier(folder, outputs))
