"""What a model hands out that an objective may read, and what an objective declares about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from internal_kd.distillation.needs import NEEDS
from internal_kd.distillation.source_hash import source_hash
from internal_kd.errors import UserError, nearest

Per = Literal["output", "pair", "stack"]
Layers = Literal["map", "last", "embeddings", "map_with_embeddings"]


@dataclass(frozen=True)
class Kind:
    """Something of a model that an objective may read.

    axes: what follows the batch axis: ``classes``, ``width``, ``heads``, ``inner`` (heads times head width) or
        ``tokens``, which is padded to the batch's longest example.
    by_layer: False for what a model has once, as its logits.
    made_of: the kinds whose sum it is; such a kind is never stored.
    """

    axes: tuple[str, ...]
    by_layer: bool = True
    made_of: tuple[str, ...] = ()

    @property
    def per_token(self) -> bool:
        """Whether it has a value for every token, so that its objectives are given the attention mask."""
        return "tokens" in self.axes


# Layers count from 1; layer 0 of ``hidden`` is the output of the embeddings.
KINDS: dict[str, Kind] = {
    "logits": Kind(("classes",), by_layer=False),
    "cls": Kind(("width",)),  # state of the first token leaving the layer
    "hidden": Kind(("tokens", "width")),
    "attention": Kind(("heads", "tokens", "tokens")),  # log-probabilities before dropout: query, key
    "attention_lse": Kind(("heads", "tokens")),  # logarithm of the sum of the exponentials of a row of scores
    "scores": Kind(("heads", "tokens", "tokens"), made_of=("attention", "attention_lse")),
    "queries": Kind(("tokens", "inner")),
    "keys": Kind(("tokens", "inner")),
    "values": Kind(("tokens", "inner")),
    # Of a soft decision tree: the sum over leaves of P(leaf) log Q(leaf); how unevenly its gates divide.
    "path_log_likelihood": Kind(("classes",), by_layer=False),
    "imbalance": Kind((), by_layer=False),
    # Of a pair: the logits of the other of the two.
    "peer_logits": Kind(("classes",), by_layer=False),
}
LABELS = "labels"


@dataclass(frozen=True)
class Objective:
    """One term of the training loss.

    The function is called as ``function(*tensors, [attention_mask], [labels], **settings, **options)``: for every kind
    in ``reads`` the student's and then the teacher's tensor (B, ...), the mask (B, n) if one of the kinds is per token,
    the labels (B,) if ``reads`` names them. It returns a scalar, or a tuple of scalars that are added.

    Attributes:
        function: ``"module:name"``.
        reads: names of ``KINDS``, and ``"labels"``.
        per: ``output``: once for the model's outputs; ``pair``: for every matched pair of layers, summed; ``stack``:
            once for all matched levels together, each kind (B, levels, ...).
        teacher: False if only the student's tensors are handed over.
        settings: parameters of the method that are handed on by name, as ``("temperature",)``.
        options: keyword arguments with their defaults; a method overrides them under ``options``.
        layers: which pairs: ``map`` (the method's layer map), ``last`` (top layer with top layer), ``embeddings``
            (layer 0 with layer 0) or ``map_with_embeddings``.
        needs: names of ``NEEDS``: what the models and the task must be like.
        project: kinds whose student side gets a learned linear map where the widths differ.
        across_batch: whether the value depends on which examples share a batch, so that micro-batches change it.
        teacher_reads: what is read of the teacher instead of each kind, where that differs.

    Raises:
        UserError: the declaration contradicts itself.
    """

    function: str
    reads: tuple[str, ...]
    per: Per
    teacher: bool = True
    settings: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    layers: Layers = "map"
    needs: tuple[str, ...] = ()
    project: tuple[str, ...] = ()
    across_batch: bool = False
    teacher_reads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise UserError(f"objective {self.function}: reads {kind!r}{nearest(kind, [*KINDS, LABELS])}")
        if not self.kinds:
            raise UserError(f"objective {self.function}: reads nothing of a model; add one of {', '.join(KINDS)}")
        wrong = [kind for kind in self.kinds if KINDS[kind].by_layer == (self.per == "output")]
        if wrong:
            fitting = [kind for kind, facts in KINDS.items() if facts.by_layer != (self.per == "output")]
            raise UserError(
                f"objective {self.function}: per {self.per!r} cannot read {wrong[0]!r}; it reads {', '.join(fitting)}"
            )
        if unknown := next((need for need in self.needs if need not in NEEDS), None):
            raise UserError(f"objective {self.function}: needs {unknown!r}{nearest(unknown, list(NEEDS))}")
        if not {*self.project} <= {"cls", "hidden"} & {*self.kinds}:
            raise UserError(
                f"objective {self.function}: project {self.project} may name cls and hidden if it reads them"
            )
        if taken := sorted({*self.options} & {*RESERVED}):
            raise UserError(f"objective {self.function}: option {taken[0]!r} belongs to every objective; rename it")

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it reads of models, labels left out."""
        return tuple(kind for kind in self.reads if kind != LABELS)

    @property
    def teacher_kinds(self) -> tuple[str, ...]:
        """What it reads of the teacher, nothing if it compares with none."""
        return (self.teacher_reads or self.kinds) if self.teacher else ()

    @property
    def reads_labels(self) -> bool:
        """Whether it reads labels, and so counts on labelled examples only."""
        return LABELS in self.reads

    @property
    def per_token(self) -> bool:
        """Whether its function is given the attention mask."""
        return any(KINDS[kind].per_token for kind in self.kinds)

    @property
    def all_options(self) -> dict[str, Any]:
        """Every option that a method may give, with its default: the function's own and those of all objectives."""
        return {**self.options, **RESERVED}

    def with_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword options of a call: the defaults with a method's own laid over; reserved ones left out.

        Raises:
            UserError: an option is unknown, or its value is of another type than its default.
        """
        known = self.all_options
        for name, value in given.items():
            if name not in known:
                raise UserError(
                    f"objective {self.function}: unknown option {name!r}{nearest(str(name), list(known))}; "
                    f"known: {', '.join(known)}"
                )
            if expected := _unlike(known[name], value):
                raise UserError(f"objective {self.function}: option {name}: {value!r} should be {expected}")
        return {**self.options, **{name: value for name, value in given.items() if name not in RESERVED}}

    def identity(self, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return everything about this term that moves a result: its code, its declaration and its options.

        ``options`` are the method's own for this term. Only what differs from a default is named.
        """
        given = dict(options or {})
        plain = Objective(self.function, self.reads, self.per)
        facts = {name: value for name, value in asdict(self).items() if value != getattr(plain, name)}
        for name in ("options", "needs", "across_batch"):
            facts.pop(name, None)
        own = {name: value for name, value in given.items() if name in RESERVED and value != RESERVED[name]}
        called = self.with_options(given)
        return {
            "source": source_hash(self.function),
            "reads": list(self.reads),
            "per": self.per,
            **facts,
            **({"options": {**called, **own}} if called or own else {}),
        }


# Options that every objective has. ``layers``: as `Objective.layers`, or a list of student layers of the map, or a list
# of pairs [student, teacher]; None: as declared. ``projection``: one linear map for all layers, or one for each;
# ``always_project``: also where the widths agree, as TinyBERT does.
RESERVED: dict[str, Any] = {"layers": None, "projection": "shared", "always_project": False}


def _unlike(default: Any, value: Any) -> str | None:
    """Return what a value should be to be of its default's kind; None if it is, or if any value may be given."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        return None if number and isinstance(value, int) and value >= 1 else "a whole number of at least 1"
    if isinstance(default, float):
        return None if number and value >= 0 else "a number of at least 0"
    return None
