"""The terms of a soft decision tree, as pure functions: fp32 scalars, the mean over the examples of a batch.

The paper prints the loss of an example as -log of a sum that is negative. These are what its text describes: the
cross-entropy of every leaf's distribution with the target, weighed by the probability of the path to the leaf.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from internal_kd.distillation.arithmetic import require_class_labels, require_same_shape, without_negative_rounding


def tree_hard(path_log_likelihood: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the leaves with the gold labels, weighed by path probability.

    path_log_likelihood: (batch, classes), the sum over leaves of P(leaf) log Q(leaf); labels: (batch,) class numbers.
    Source: Frosst, Hinton 2017, Distilling a Neural Network Into a Soft Decision Tree (arXiv 1711.09784), section 3.
    Raises UserError when the labels do not match.
    """
    require_class_labels("a soft tree", path_log_likelihood, labels)
    return F.nll_loss(path_log_likelihood.float(), labels.long())


def tree_soft(path_log_likelihood: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy of the leaves with a teacher's probabilities, weighed by path probability, less their entropy.

    path_log_likelihood as for `tree_hard`; teacher_logits: (batch, classes). The entropy has no gradient;
    with it the loss would not be 0 for a tree that answers as its teacher does.
    Source: Frosst, Hinton 2017, Distilling a Neural Network Into a Soft Decision Tree (arXiv 1711.09784), section 3.
    Raises UserError when the shapes differ.
    """
    require_same_shape("student and teacher logits", path_log_likelihood, teacher_logits, dimensions=2)
    targets = F.log_softmax(teacher_logits.detach().float(), dim=-1)
    return without_negative_rounding((targets.exp() * (targets - path_log_likelihood.float())).sum(-1).mean())


def tree_balance(imbalance: Tensor) -> Tensor:
    """The penalty for gates that send most examples to one side, 2^-level as strong at every level.

    imbalance: (batch,), the sum over inner nodes of 2^-level (-log a - log(1 - a)) / 2, where a is the share that goes
    right, a moving average. Its weight is the paper's lambda.
    Source: Frosst, Hinton 2017, Distilling a Neural Network Into a Soft Decision Tree (arXiv 1711.09784), section 3.1.
    """
    return imbalance.float().mean()
