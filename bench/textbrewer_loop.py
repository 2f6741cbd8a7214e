"""TextBrewer's GeneralDistiller, driven as its examples drive it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig
from textbrewer.presets import MATCH_LOSS_MAP
from torch import Tensor

from bench.contestants import Contestant
from bench.losses import attention_kl, cls_cosine
from bench.pace import Pace, device
from bench.workload import Corpus, load_model, read_batches, read_workload

_FOREVER = 10**6


def run(contestant: Contestant, folder: Path, pace: Pace) -> None:
    """Train until the pace ends it."""
    workload, corpus = read_workload(folder), Corpus(folder)
    shipped = contestant.variant == "shipped"
    # With fused attention transformers hands out no attention maps.
    teacher, student = (load_model(folder / who, attn_implementation="eager").to(device()) for who in _WHO)
    MATCH_LOSS_MAP["attention_kl"] = lambda student, teacher, mask: attention_kl(student, teacher, mask)
    MATCH_LOSS_MAP["cls_cosine"] = lambda student, teacher, mask: cls_cosine(student, teacher)
    names = ("attention_mse", "cos") if shipped else ("attention_kl", "cls_cosine")
    matches = []
    for layer, above in enumerate(workload.matched, start=1):
        attention = {"layer_T": above - 1, "layer_S": layer - 1, "feature": "attention", "loss": names[0]}
        hidden = {"layer_T": above, "layer_S": layer, "feature": "hidden", "loss": names[1]}
        matches += [attention | {"weight": 1}, hidden | {"weight": 1}]
    distiller = GeneralDistiller(
        TrainingConfig(output_dir=str(folder / "textbrewer"), device=device(), ckpt_steps=_FOREVER),
        DistillationConfig(temperature=1, intermediate_matches=matches),
        teacher, student, _adaptor, _adaptor,
    )  # fmt: skip
    asked = {"output_attentions": True, "output_hidden_states": True}
    with torch.no_grad():
        common = corpus.batch(read_batches(folder, "bucketed")[0])
        pace.first_loss(float(distiller.train_on_batch(common, asked)[0]))
    length = workload.longest if contestant.batches == "fixed" else None
    kind = "shuffled" if contestant.batches == "fixed" else contestant.batches
    batches = [corpus.batch(positions, length) for positions in read_batches(folder, kind)]
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-5, weight_decay=0.01, fused=not shipped)
    with distiller:
        distiller.train(optimizer, _Loader(pace, batches), num_steps=_FOREVER, max_grad_norm=1.0, **asked)


_WHO = ("teacher", "student")


class _Loader:
    """What TextBrewer takes for a data loader."""

    def __init__(self, pace: Pace, batches: list[dict[str, Tensor]]) -> None:
        self._pace, self._batches = pace, batches

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self._pace.over(self._batches)


def _adaptor(batch: dict[str, Tensor], out: Any) -> dict[str, Any]:
    return {
        "logits": out.logits,
        "attention": out.attentions,
        "hidden": out.hidden_states,
        "inputs_mask": batch["attention_mask"],
    }
