"""All losses, as pure functions of tensors; each lives in the file of what it compares.

| file | compares |
|---|---|
| output_losses.py | logits, with labels or a teacher's logits |
| hidden_losses.py | hidden states: of [CLS], of all tokens |
| attention_losses.py | attention maps and scores |
| relations.py | relations between tokens, levels, examples |
| tree_losses.py | the leaves of a soft decision tree, with labels or a teacher's logits |
| mutual_losses.py | logits of two learners that teach each other |

Every loss is a scalar in fp32 whatever the dtype of its inputs (or a tuple of two: distances and angles), averaged
inside an example over real positions, then over examples, and differentiable in the student; the teacher's side is
detached, so no gradient ever reaches the teacher. Padding never counts, whatever it holds. Except for `dist`,
`rkd`, `beta_smoothing`, `mutual_weighted` and `mutual_shuffled`, which compare the examples of a batch with each other,
a batch's loss is the mean of its examples' losses.

Example:
    >>> import torch
    >>> from internal_kd.distillation.losses import hidden_mse
    >>> student, teacher = torch.zeros(1, 3, 8), torch.ones(1, 3, 8)
    >>> hidden_mse(student, teacher, attention_mask=torch.tensor([[1, 1, 0]])).item()
    1.0
"""

from internal_kd.distillation.attention_losses import (
    attention_kl,
    attention_kl_by_head,
    attention_score_mse,
    attention_transfer,
)
from internal_kd.distillation.hidden_losses import (
    cls_cosine,
    hidden_cosine,
    hidden_mse,
    patient_cls,
    token_energy,
)
from internal_kd.distillation.mutual_losses import mutual, mutual_gated, mutual_shuffled, mutual_weighted
from internal_kd.distillation.output_losses import (
    beta_smoothing,
    confidence_penalty,
    dist,
    dkd,
    hard_label_loss,
    label_smoothing,
    soft_label_loss,
)
from internal_kd.distillation.relations import layer_relation, relation_kl, rkd, word_relation
from internal_kd.distillation.tree_losses import tree_balance, tree_hard, tree_soft

__all__ = [
    "attention_kl",
    "attention_kl_by_head",
    "attention_score_mse",
    "attention_transfer",
    "beta_smoothing",
    "cls_cosine",
    "confidence_penalty",
    "dist",
    "dkd",
    "hard_label_loss",
    "hidden_cosine",
    "hidden_mse",
    "label_smoothing",
    "layer_relation",
    "mutual",
    "mutual_gated",
    "mutual_shuffled",
    "mutual_weighted",
    "patient_cls",
    "relation_kl",
    "rkd",
    "soft_label_loss",
    "token_energy",
    "tree_balance",
    "tree_hard",
    "tree_soft",
    "word_relation",
]
