"""Who takes part: every contestant with its setting, and the groups that run in turn with one another."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Contestant:
    """One way to train the student.

    Attributes:
        module: where its ``run(contestant, folder, pace)`` is.
        batches: bucketed, shuffled (padded to a batch's longest) or fixed (shuffled, padded to the longest of all).
        terms: objectives that ours weighs with 1.
        variant: what ``module`` does differently.
        peer: whether it runs in the peers' environment.
        losses: how its losses are defined.
    """

    name: str
    title: str
    module: str
    batches: str = "bucketed"
    variant: str = ""
    precision: str = "fp32"
    peer: bool = False
    terms: tuple[str, ...] = ()
    losses: str = ""


OURS, PLAIN, PRODUCTS = "bench.ours", "bench.plain", "bench.products"
TEXTBREWER, TORCHDISTILL = "bench.textbrewer_loop", "bench.torchdistill_loop"
SAME = "soft KL, attention KL, [CLS] cosine of the matched layers"
AFTER_DROPOUT = f"{SAME}; attention as eager attention gives it, after dropout"
INTERNAL = ("soft", "attention_kl", "cls_cosine")

_FINETUNED = Contestant(
    "finetuned", "ours, row 2.0: fine-tuning without a teacher", OURS, terms=("hard",), losses="cross-entropy"
)
_ROW_33 = Contestant("row_33", "ours, row 3.3: recorded teacher, all layers", OURS, terms=INTERNAL, losses=SAME)
_HIDDEN = Contestant(
    "hidden", "ours: recorded hidden states of all layers", OURS, terms=("soft", "hidden_mse"),
    losses="soft KL, mean squared error of the hidden states of the matched layers",
)  # fmt: skip
_PROGRESSIVE = Contestant(
    "progressive", "ours, row 3.4: progressive, an epoch of each of its 7 stages", OURS, variant="progressive",
    terms=INTERNAL, losses="those of the stage's layer; soft KL in the last stage",
)  # fmt: skip
_PLAIN = Contestant("plain", "plain loop, dynamic padding", PLAIN, "shuffled", losses=AFTER_DROPOUT)
_PLAIN_BUCKETS = Contestant("plain_buckets", "plain loop, our length buckets", PLAIN, losses=AFTER_DROPOUT)

COMPARISON = (
    _FINETUNED,
    _ROW_33,
    _HIDDEN,
    Contestant(
        "recording", "ours: recording the teacher, once for all students", OURS, variant="recording", losses="none"
    ),
    _PROGRESSIVE,
    _PLAIN,
    _PLAIN_BUCKETS,
    Contestant(
        "textbrewer_shipped", "TextBrewer as its examples have it: padded to 128", TEXTBREWER, "fixed", "shipped",
        peer=True, losses="its `ce`, `attention_mse`, `cos` (mean over all tokens)",
    ),
    Contestant(
        "textbrewer_best", "TextBrewer, dynamic padding", TEXTBREWER, "shuffled", "best", peer=True,
        losses="its `ce` (cross-entropy, not KL); attention KL and [CLS] cosine registered in its `MATCH_LOSS_MAP`",
    ),
    Contestant(
        "torchdistill_shipped", "torchdistill as its GLUE example has it: dynamic padding", TORCHDISTILL, "shuffled",
        "shipped", peer=True,
        losses="its `KDLoss`; attention KL and [CLS] cosine as registered mid-level losses on its forward hooks",
    ),
    Contestant(
        "torchdistill_best", "the same with a fused optimizer", TORCHDISTILL, "shuffled", "best", peer=True,
        losses="the same",
    ),
    Contestant(
        "torchdistill_buckets", "the same, handed our length buckets by its user", TORCHDISTILL, "bucketed", "best",
        peer=True, losses="the same",
    ),
)  # fmt: skip

ABLATION = (
    _ROW_33,
    replace(_ROW_33, name="recomputed", title="row 3.3, teacher computed at every step", variant="recomputed"),
    replace(_ROW_33, name="unbucketed", title="row 3.3, shuffled batches, dynamic padding", batches="shuffled"),
    replace(_ROW_33, name="torch_dropout", title="row 3.3, torch's dropout", variant="torch_dropout"),
    replace(_ROW_33, name="full_vocabulary", title="row 3.3, full vocabulary", variant="full_vocabulary"),
    replace(_ROW_33, name="freed_memory", title="row 3.3, freed memory given back", variant="freed_memory"),
    replace(_ROW_33, name="compiled", title="row 3.3, feed-forward halves compiled", variant="compiled"),
    _PROGRESSIVE,
    replace(_PROGRESSIVE, name="untruncated", title="row 3.4, every stage computes all layers", variant="untruncated"),
)

BF16 = (
    *(replace(c, name=f"{c.name}_bf16", precision="bf16") for c in (_FINETUNED, _ROW_33, _PLAIN, _PLAIN_BUCKETS)),
    Contestant(
        "products_bf16", "nothing but the matrix products of fine-tuning", PRODUCTS, precision="bf16", losses="none"
    ),
)

# One training whose stages are all objectives in turn: one process holds what nineteen would hold each.
OBJECTIVES = (Contestant("objectives", "ours: soft labels and each objective in turn", OURS, variant="objectives"),)

GROUPS: dict[str, tuple[Contestant, ...]] = {
    "comparison": COMPARISON,
    "objectives": OBJECTIVES,
    "ablation": ABLATION,
    "bf16": BF16,
}


def by_name(name: str) -> Contestant:
    """Return a contestant."""
    return next(c for group in GROUPS.values() for c in group if c.name == name)
