"""Who takes part: every contestant with its setting, and the groups that run in turn with one another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contestant:
    """One way to train the student.

    Attributes:
        module: where its ``run(contestant, folder, pace)`` is.
        batches: bucketed, shuffled (padded to a batch's longest) or fixed (shuffled, padded to the longest of all).
        variant: what ``module`` is to do.
        peer: whether it runs in the peers' environment.
        laps: stages of a curriculum that make up a round; 1 for the others.
        losses: how its losses are defined.
    """

    name: str
    title: str
    module: str
    batches: str = "bucketed"
    variant: str = ""
    precision: str = "fp32"
    peer: bool = False
    laps: int = 1
    losses: str = ""


OURS, PLAIN = "bench.ours", "bench.plain"
TEXTBREWER, TORCHDISTILL = "bench.textbrewer_loop", "bench.torchdistill_loop"
SAME = "soft KL, attention KL, [CLS] cosine of the matched layers"
AFTER_DROPOUT = f"{SAME}; attention as eager attention gives it, after dropout"
STAGES = 7

_FINETUNED = Contestant("finetuned", "ours, row 2.0: fine-tuning without a teacher", OURS, losses="cross-entropy")
_ROW_33 = Contestant("row_33", "ours, row 3.3: recorded teacher, all layers", OURS, losses=SAME)
_PROGRESSIVE = Contestant(
    "progressive", "ours, row 3.4: progressive, an epoch of each of its 7 stages", OURS, laps=STAGES,
    losses="those of the stage's layer; soft KL in the last stage",
)  # fmt: skip
_PLAIN = Contestant("plain", "plain loop, dynamic padding", PLAIN, "shuffled", losses=AFTER_DROPOUT)
_PLAIN_BUCKETS = Contestant("plain_buckets", "plain loop, our length buckets", PLAIN, losses=AFTER_DROPOUT)

COMPARISON = (
    _FINETUNED,
    _ROW_33,
    Contestant("recording", "ours: recording the teacher, once for all students", OURS, losses="none"),
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
    Contestant("recomputed", "row 3.3, teacher computed at every step", OURS, variant="recomputed", losses=SAME),
    Contestant("unbucketed", "row 3.3, shuffled batches, dynamic padding", OURS, "shuffled", losses=SAME),
    Contestant("torch_dropout", "row 3.3, torch's dropout", OURS, variant="torch_dropout", losses=SAME),
    Contestant("whole_vocabulary", "row 3.3, whole vocabulary", OURS, variant="whole_vocabulary", losses=SAME),
    Contestant("compiled", "row 3.3, feed-forward halves compiled", OURS, variant="compiled", losses=SAME),
    _PROGRESSIVE,
    Contestant(
        "untruncated", "row 3.4, every stage computes all layers", OURS, variant="untruncated", laps=STAGES,
        losses=_PROGRESSIVE.losses,
    ),
)  # fmt: skip

BF16 = tuple(
    Contestant(f"{c.name}_bf16", c.title, c.module, c.batches, c.variant, "bf16", losses=c.losses)
    for c in (_FINETUNED, _ROW_33, _PLAIN, _PLAIN_BUCKETS)
)

GROUPS: dict[str, tuple[Contestant, ...]] = {"comparison": COMPARISON, "ablation": ABLATION, "bf16": BF16}


def by_name(name: str) -> Contestant:
    """Return a contestant."""
    return next(c for group in GROUPS.values() for c in group if c.name == name)
