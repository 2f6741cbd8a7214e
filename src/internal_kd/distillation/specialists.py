"""How a generalist and its specialists answer together (Hinton et al. 2015, section 5.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STEPS = 100
_LEAST = 1e-12


def combined(logits: Tensor, subsets: Sequence[Sequence[int] | None], steps: int = STEPS) -> Tensor:
    """Return log q (B, C), where q minimises KL(p_g || q) + the sum over active specialists m of KL(p_m || q).

    A specialist is active for an example if its subset has the generalist's most probable class; in its term q's
    probabilities of all other classes are added up. There is no closed form. q is the maximum-likelihood estimate from
    answers, some of which name only a group of classes, so expectation-maximisation finds it: every step divides a
    specialist's dustbin among its classes in proportion to q. The objective is convex in q and falls with every step.

    Args:
        logits: (M, B, C), the generalist's first; a specialist's are equal outside of its subset.
        subsets: of every member its classes; None for the generalist.
        steps: of expectation-maximisation.

    Source: Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network (arXiv 1503.02531), equation 5; the
    paper takes gradient steps on the logits of q.

    Example:
        >>> logits = torch.log(torch.tensor([[[0.5, 0.3, 0.2]], [[0.8, 0.1, 0.1]]]))
        >>> combined(logits, [None, (0,)]).exp()
        tensor([[0.6500, 0.2100, 0.1400]])
    """
    probabilities = logits.float().softmax(-1)
    general, special = probabilities[0], probabilities[1:]
    inside = torch.zeros(special.shape[0], special.shape[-1], dtype=torch.bool, device=logits.device)
    for row, subset in zip(inside, subsets[1:], strict=True):
        row[list(subset or ())] = True
    active = inside[:, general.argmax(-1)].float()  # (M, B)
    own = torch.einsum("mb,mc,mbc->bc", active, inside.float(), special)
    dustbin = active * torch.einsum("mc,mbc->mb", (~inside).float(), special)
    known, answering = general + own, 1 + active.sum(0)[:, None]
    q = known / known.sum(-1, keepdim=True)
    for _ in range(steps):
        share = dustbin / torch.einsum("mc,bc->mb", (~inside).float(), q).clamp_min(_LEAST)
        q = (known + q * torch.einsum("mb,mc->bc", share, (~inside).float())) / answering
    return q.clamp_min(_LEAST).log()
