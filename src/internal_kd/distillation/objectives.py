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

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from internal_kd.distillation.declarations import Objective, Per
from internal_kd.distillation.needs import NEEDS, Facts
from internal_kd.errors import UserError
from internal_kd.registry import Registry


def check_needs(name: str, facts: Facts, options: Mapping[str, Any] | None = None) -> None:
    """Refuse a term that cannot work with these models and this task.

    Raises:
        UserError: a need of the objective ``name`` is not met.
    """
    objective = OBJECTIVES[name]
    called = objective.with_options(options or {})
    for need in objective.needs:
        if reason := NEEDS[need](facts, called):
            raise UserError(f"objective {name!r} {reason}")


# Names by the file that defines them; `losses` has them all. Each function's docstring names its source.
_OUTPUTS = "internal_kd.distillation.output_losses"
_HIDDEN = "internal_kd.distillation.hidden_losses"
_ATTENTION = "internal_kd.distillation.attention_losses"
_RELATIONS = "internal_kd.distillation.relations"
_TREES = "internal_kd.distillation.tree_losses"
_MUTUAL = "internal_kd.distillation.mutual_losses"
_OF_PEERS = ("logits", "peer_logits", "labels")
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
            f"{_ATTENTION}:attention_score_mse", ("scores",), "pair", options={"centred": False}, needs=("equal_heads",)
        ),
        # MiniLM, with attention_kl on the last layer; MiniLMv2
        "value_relation": Objective(
            f"{_RELATIONS}:relation_kl", ("values",), "pair", options={"heads": 12}, layers="last",
            needs=("heads_divide_width",),
        ),
        "qkv_relation": Objective(
            f"{_RELATIONS}:qkv_relation", ("queries", "keys", "values"), "pair", options={"heads": 12}, layers="last",
            needs=("heads_divide_width",),
        ),
        # Contextual Knowledge Distillation
        "word_relation": Objective(
            f"{_RELATIONS}:word_relation", ("hidden",), "pair", options={"window": 10, **_WEIGHTS},
            layers="map_with_embeddings",
        ),
        "layer_relation": Objective(
            f"{_RELATIONS}:layer_relation", ("hidden",), "stack", options=_WEIGHTS, layers="map_with_embeddings"
        ),
        # DistilBERT
        "hidden_cosine": Objective(f"{_HIDDEN}:hidden_cosine", ("hidden",), "pair", layers="last", project=("hidden",)),
        # Attention transfer, of attention and of hidden states
        "attention_transfer": Objective(f"{_ATTENTION}:attention_transfer", ("attention",), "pair"),
        "token_energy": Objective(f"{_HIDDEN}:token_energy", ("hidden",), "pair"),
        # Decoupled Knowledge Distillation; DIST; Relational Knowledge Distillation
        "dkd": Objective(
            f"{_OUTPUTS}:dkd", ("logits", "labels"), "output", settings=("temperature",),
            options={"alpha": 1.0, "beta": 8.0}, needs=("classes>=3",),
        ),
        "dist": Objective(
            f"{_OUTPUTS}:dist", ("logits",), "output", settings=("temperature",), options={"beta": 1.0, "gamma": 1.0},
            needs=("classes>=3",), across_batch=True,
        ),
        "rkd": Objective(
            f"{_RELATIONS}:rkd", ("cls",), "pair", options={"distance_weight": 1.0, "angle_weight": 2.0},
            layers="last", across_batch=True,
        ),
        # Without a teacher
        "label_smoothing": Objective(
            f"{_OUTPUTS}:label_smoothing", ("logits", "labels"), "output", teacher=False, options={"smoothing": 0.1},
            needs=("classes", "smoothing<1"),
        ),
        "confidence_penalty": Objective(
            f"{_OUTPUTS}:confidence_penalty", ("logits",), "output", teacher=False, options={"beta": 0.1},
            needs=("classes",),
        ),
        # With a teacher, which is read for an order alone
        "beta_smoothing": Objective(
            f"{_OUTPUTS}:beta_smoothing", ("logits", "labels"), "output", options={"a": 3.0}, needs=("classes",),
            across_batch=True,
        ),
        # Soft decision trees
        "tree_hard": Objective(
            f"{_TREES}:tree_hard", ("path_log_likelihood", "labels"), "output", teacher=False, needs=("classes",)
        ),
        "tree_soft": Objective(
            f"{_TREES}:tree_soft", ("path_log_likelihood",), "output", needs=("classes",), teacher_reads=("logits",)
        ),
        "tree_balance": Objective(f"{_TREES}:tree_balance", ("imbalance",), "output", teacher=False),
        # Two learners that teach each other
        "mutual": Objective(
            f"{_MUTUAL}:mutual", ("logits", "peer_logits"), "output", teacher=False, settings=("temperature",)
        ),
        "mutual_gated": Objective(
            f"{_MUTUAL}:mutual_gated", _OF_PEERS, "output", teacher=False, settings=("temperature",), needs=("classes",)
        ),
        "mutual_shuffled": Objective(
            f"{_MUTUAL}:mutual_shuffled", _OF_PEERS, "output", teacher=False, settings=("temperature",),
            needs=("classes",), across_batch=True,
        ),
        "mutual_weighted": Objective(
            f"{_MUTUAL}:mutual_weighted", _OF_PEERS, "output", teacher=False, settings=("temperature",),
            options={"sharpness": 1.0}, needs=("classes",), across_batch=True,
        ),
    },
)  # fmt: skip

Function = TypeVar("Function", bound=Callable[..., Any])


def objective(name: str, *, reads: tuple[str, ...], per: Per, **declared: Any) -> Callable[[Function], Function]:
    """Enter the decorated function as an objective; arguments as the attributes of `Objective`.

    Raises:
        UserError: the name is taken, or the declaration contradicts itself.
    """

    def enter(function: Function) -> Function:
        path = f"{function.__module__}:{function.__qualname__}"
        OBJECTIVES.add(name, Objective(path, reads, per, **declared))
        return function

    return enter
