"""The loop one writes by hand: AdamW, eager attention, teacher and student computed at every step."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.contestants import Contestant
from bench.losses import attention_kl, cls_cosine, soft_kl
from bench.pace import Pace, device
from bench.workload import Corpus, load_model, read_batches, read_workload


def run(contestant: Contestant, folder: Path, pace: Pace) -> None:
    """Train until the pace ends it."""
    place, corpus = device(), Corpus(folder)
    teacher = load_model(folder / "teacher", attn_implementation="eager").to(place).requires_grad_(False)
    student = load_model(folder / "student", attn_implementation="eager").to(place)
    matched = read_workload(folder).matched
    bf16 = contestant.precision == "bf16"

    def loss(batch: dict[str, Tensor]) -> Tensor:
        batch = {name: tensor.to(place) for name, tensor in batch.items()}
        with torch.autocast(place.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
            with torch.no_grad():
                answered = teacher(**batch, output_attentions=True, output_hidden_states=True)
            out = student(**batch, output_attentions=True, output_hidden_states=True)
        total = soft_kl(out.logits.float(), answered.logits.float())
        for layer, above in enumerate(matched, start=1):
            pair = out.attentions[layer - 1].float(), answered.attentions[above - 1].float()
            total = total + attention_kl(*pair, batch["attention_mask"])
            total = total + cls_cosine(out.hidden_states[layer].float(), answered.hidden_states[above].float())
        return total

    batches = [corpus.batch(positions) for positions in read_batches(folder, contestant.batches)]
    with torch.no_grad():
        pace.first_loss(float(loss(corpus.batch(read_batches(folder, "bucketed")[0]))))
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-5, weight_decay=0.01)
    student.train()
    for batch in pace.over(batches):
        loss(batch).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
