"""The matrix products of a step of fine-tuning and nothing else: the rate at which the machine can compute them.

Of every layer: queries, keys, values and output (width x width), the two matrices of the feed-forward part, scores and
context of each head; each forward and, twice, backward. Products of pooler and head are left out: they are small.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from bench.contestants import Contestant
from bench.pace import Pace, device
from bench.workload import Corpus, Workload, read_batches, read_workload


def run(contestant: Contestant, folder: Path, pace: Pace) -> None:
    """Multiply until the pace ends it."""
    workload, corpus = read_workload(folder), Corpus(folder)
    dtype = torch.bfloat16 if contestant.precision == "bf16" else torch.float32
    shapes = [{"input_ids": corpus.batch(batch)["input_ids"]} for batch in read_batches(folder, contestant.batches)]
    multiply = step_of(workload, dtype)
    for batch in pace.over(shapes):
        multiply(*batch["input_ids"].shape)


def step_of(workload: Workload, dtype: torch.dtype) -> Callable[[int, int], None]:
    """Return a function of a batch's size and length that computes the products of one step."""
    width, heads, place = workload.width, workload.heads, device()
    sizes = [(width, width)] * 4 + [(4 * width, width), (width, 4 * width)]
    # Each layer has weights of its own, as in a model: a cache that holds one layer's does not hold the next one's.
    weights = [[torch.randn(size, dtype=dtype, device=place) for size in sizes] for _ in range(workload.student_layers)]
    longest = workload.batch_size * workload.longest
    states = {size: torch.randn(longest, size, dtype=dtype, device=place) for size in (width, 4 * width)}
    maps = torch.randn(heads * longest * workload.longest, dtype=dtype, device=place)

    def step(batch: int, length: int) -> None:
        tokens = batch * length
        head = states[width][:tokens].view(batch * heads, length, width // heads)
        scores = maps[: batch * heads * length**2].view(batch * heads, length, length)
        for layer in weights:
            for weight in layer:
                _linear(states[weight.shape[1]][:tokens], weight, states[weight.shape[0]][:tokens])
            _attention(head, scores)

    return step


def _linear(entering: Tensor, weight: Tensor, leaving: Tensor) -> None:
    """Compute a linear map of ``entering`` (tokens, in) and, from the gradient of its output, both of its gradients."""
    torch.mm(entering, weight.T)
    torch.mm(leaving, weight)
    torch.mm(leaving.T, entering)


def _attention(head: Tensor, scores: Tensor) -> None:
    """Compute scores and context of heads (rows, length, head width), and the two gradients of each."""
    torch.bmm(head, head.transpose(1, 2))
    torch.bmm(scores, head)
    torch.bmm(scores, head)  # gradient of the queries
    torch.bmm(scores.transpose(1, 2), head)  # of the keys
    torch.bmm(head, head.transpose(1, 2))  # of the weights of attention
    torch.bmm(scores.transpose(1, 2), head)  # of the values
