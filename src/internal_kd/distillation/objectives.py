"""The table of objectives: every term a method may weigh, and what its function is given.

A new objective is a pure function, one entry here (or the decorator ``objective`` in a plugin file) and no other line:
reading, recording, layers, projections and refusals all follow from the declaration, and the tests of this table cover
it. Importing this module costs nothing; functions are imported when a training starts.

Example, ``my_losses.py`` named under ``plugins:`` in params.yaml::

    from internal_kd.distillation.objectives import objective

    @objective("hidden_l1", reads=("hidden",), per="pair", project=("hidden",))
    def hidden_l1(student, teacher, attention_mask):          # (B, n, D), (B, n, D), (B, n) -> scalar
        real = attention_mask.bool()
        return (student.float() - teacher.float()).abs()[real].mean()
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Literal, TypeVar

from internal_kd.distillation.needs import NEEDS, WITH_TWO_CLASSES, Facts
from internal_kd.distillation.source_hash import source_hash
from internal_kd.errors import UserError, nearest
from internal_kd.files import sha256_text
from internal_kd.registry import Registry

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
        teacher_reads: what is read of the teacher in the place of each kind, where that is not the same.

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


def check_needs(name: str, facts: Facts, options: Mapping[str, Any] | None = None) -> None:
    """Refuse a term that cannot work with these models and this task.

    Raises:
        UserError: a need of the objective ``name`` is not met.
    """
    objective = OBJECTIVES[name]
    called = objective.with_options(options or {})
    for need in objective.needs:
        if reason := NEEDS[need](facts, called):
            left = f"; {WITH_TWO_CLASSES[name]}" if facts.outputs == 2 and name in WITH_TWO_CLASSES else ""
            raise UserError(f"objective {name!r} {reason}{left}")


# Names by the file that defines them; `losses` has them all. Each function's docstring names its source.
_OUTPUTS = "internal_kd.distillation.output_losses"
_HIDDEN = "internal_kd.distillation.hidden_losses"
_ATTENTION = "internal_kd.distillation.attention_losses"
_RELATIONS = "internal_kd.distillation.relations"
_TREES = "internal_kd.distillation.tree_losses"
_WEIGHTS = {"distance_weight": 1.0, "angle_weight": 1.0}

OBJECTIVES: Registry[Objective] = Registry(
    "objective",
    {
        "hard": Objective(f"{_OUTPUTS}:hard_label_loss", ("logits", "labels"), "output", teacher=False),
        "soft": Objective(f"{_OUTPUTS}:soft_label_loss", ("logits",), "output", settings=("temperature",)),
        "attention_kl": Objective(f"{_ATTENTION}:attention_kl", ("attention",), "pair", needs=("equal_heads",)),
        "cls_cosine": Objective(f"{_HIDDEN}:cls_cosine", ("cls",), "pair", project=("cls",)),
        # Patient Knowledge Distillation
        "patient_cls": Objective(f"{_HIDDEN}:patient_cls", ("cls",), "pair", project=("cls",)),
        # TinyBERT
        "embedding_mse": Objective(
            f"{_HIDDEN}:hidden_mse", ("hidden",), "pair", layers="embeddings", project=("hidden",)
        ),
        "hidden_mse": Objective(f"{_HIDDEN}:hidden_mse", ("hidden",), "pair", project=("hidden",)),
        "attention_mse": Objective(
            f"{_ATTENTION}:attention_score_mse",
            ("scores",),
            "pair",
            options={"centred": False},
            needs=("equal_heads",),
        ),
        # MiniLM, with attention_kl on the last layer; MiniLMv2
        "value_relation": Objective(
            f"{_RELATIONS}:relation_kl",
            ("values",),
            "pair",
            options={"heads": 12},
            layers="last",
            needs=("heads_divide_width",),
        ),
        "qkv_relation": Objective(
            f"{_RELATIONS}:qkv_relation",
            ("queries", "keys", "values"),
            "pair",
            options={"heads": 12},
            layers="last",
            needs=("heads_divide_width",),
        ),
        # Contextual Knowledge Distillation
        "word_relation": Objective(
            f"{_RELATIONS}:weighted_word_relation",
            ("hidden",),
            "pair",
            options={"window": 10, **_WEIGHTS},
            layers="map_with_embeddings",
        ),
        "layer_relation": Objective(
            f"{_RELATIONS}:weighted_layer_relation",
            ("hidden",),
            "stack",
            options=_WEIGHTS,
            layers="map_with_embeddings",
        ),
        # DistilBERT
        "hidden_cosine": Objective(f"{_HIDDEN}:hidden_cosine", ("hidden",), "pair", layers="last", project=("hidden",)),
        # Attention transfer
        "attention_transfer": Objective(f"{_ATTENTION}:attention_transfer", ("attention",), "pair"),
        # Decoupled Knowledge Distillation; DIST; Relational Knowledge Distillation
        "dkd": Objective(
            f"{_OUTPUTS}:dkd",
            ("logits", "labels"),
            "output",
            settings=("temperature",),
            options={"alpha": 1.0, "beta": 8.0},
            needs=("classes>=3",),
        ),
        "dist": Objective(
            f"{_OUTPUTS}:dist",
            ("logits",),
            "output",
            settings=("temperature",),
            options={"beta": 1.0, "gamma": 1.0},
            needs=("classes>=3",),
            across_batch=True,
        ),
        "rkd": Objective(
            f"{_RELATIONS}:weighted_rkd",
            ("cls",),
            "pair",
            options={"distance_weight": 1.0, "angle_weight": 2.0},
            layers="last",
            across_batch=True,
        ),
        # Without a teacher
        "label_smoothing": Objective(
            f"{_OUTPUTS}:label_smoothing",
            ("logits", "labels"),
            "output",
            teacher=False,
            options={"smoothing": 0.1},
            needs=("classes", "smoothing<1"),
        ),
        "confidence_penalty": Objective(
            f"{_OUTPUTS}:confidence_penalty",
            ("logits",),
            "output",
            teacher=False,
            options={"beta": 0.1},
            needs=("classes",),
        ),
        # Soft decision trees
        "tree_hard": Objective(
            f"{_TREES}:tree_hard", ("path_log_likelihood", "labels"), "output", teacher=False, needs=("classes",)
        ),
        "tree_soft": Objective(
            f"{_TREES}:tree_soft", ("path_log_likelihood",), "output", needs=("classes",), teacher_reads=("logits",)
        ),
        "tree_balance": Objective(f"{_TREES}:tree_balance", ("imbalance",), "output", teacher=False),
    },
)

Function = TypeVar("Function", bound=Callable[..., Any])


def objective(
    name: str,
    *,
    reads: tuple[str, ...],
    per: Per,
    teacher: bool = True,
    settings: tuple[str, ...] = (),
    options: Mapping[str, Any] | None = None,
    layers: Layers = "map",
    needs: tuple[str, ...] = (),
    project: tuple[str, ...] = (),
    across_batch: bool = False,
) -> Callable[[Function], Function]:
    """Enter the decorated function as an objective; arguments as the attributes of `Objective`.

    Raises:
        UserError: the name is taken, or the declaration contradicts itself.
    """

    def enter(function: Function) -> Function:
        path = f"{function.__module__}:{function.__qualname__}"
        OBJECTIVES.add(
            name,
            Objective(path, reads, per, teacher, settings, options or {}, layers, needs, project, across_batch),
        )
        return function

    return enter


def load_plugins(paths: Iterable[Path | str]) -> None:
    """Import each file once per process, under a module name of its own.

    Raises:
        UserError: a file does not exist, fails to import, or enters a name that is taken.
    """
    for path in map(Path, paths):
        name = plugin_module(path)
        if name in sys.modules:
            continue
        if not path.is_file():
            raise UserError(f"plugins: {path} does not exist; give the path of a Python file")
        spec = spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UserError(f"plugins: {path} is not a Python file; its name must end in .py")
        module = sys.modules[name] = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            raise UserError(f"plugins: {path} cannot be imported ({kind}{error})") from error


def plugin_module(path: Path | str) -> str:
    """Return the name under which a plugin file is imported; files of one name in two folders have two.

    Example:
        >>> plugin_module("my_losses.py").startswith("internal_kd_plugin_my_losses_")
        True
    """
    path = Path(path)
    stem = re.sub(r"\W", "_", path.stem)
    return f"internal_kd_plugin_{stem}_{sha256_text(str(path.resolve()))[:8]}"
