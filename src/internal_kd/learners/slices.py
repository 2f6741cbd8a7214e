"""Smaller encoders cut out of larger ones: chosen layers, residual dimensions, heads and inner neurons.

What is kept is chosen from the weights alone, without data:

- residual dimensions (the width) by the sum of |gain| over all LayerNorms, which scales what every matrix reads, as
  Minitron (Muralidharan et al. 2024) ranks them by LayerNorm's measured output;
- heads by |W_query^T W_key| * |W_output W_value|: how selective a head is, times how much it writes;
- dimensions inside a head by |query_i| * |key_i| and by |value_i| * |output_i|, inner neurons by |output_i|, and
  dimensions between the two maps of the classification head by the product of both.

The same residual dimensions are kept everywhere: embeddings, LayerNorms, and every matrix that reads or writes them.
Matrices that read them are multiplied by sqrt(width / kept), so that sums of fewer terms keep their size (weight
subcloning, Samragh et al. 2023). Dimensions keep their order, so a slice of full size is the source.

Compared on two 384-wide encoders cut to 192 (linear CKA of all token states with the source's, CoLA's dev set): these
choices keep 0.88 at half of the depth on both, random ones 0.60 to 0.76, ranking by the norm of word embeddings 0.62
and 0.80. Heads ranked by |W_output W_value| alone did worse than random heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from internal_kd.errors import UserError
from internal_kd.learners.blocks import head_importance
from internal_kd.learners.families import Family, family_of, layers_path
from internal_kd.learners.learner import Shape
from internal_kd.learners.weights import seeded

Weights = dict[str, Tensor]


def drawn_student(source: PreTrainedModel, shape: Shape, outputs: int, seed: int) -> PreTrainedModel:
    """Return a model of the source's architecture and the given sizes, every weight drawn from ``seed``.

    It is in eval mode and fp32. ``source`` may be on the meta device: only its class and config are used.
    """
    config, family = deepcopy(source.config), family_of(source.config.model_type)
    if getattr(config, "embedding_size", None) == source.config.hidden_size:
        config.embedding_size = shape.width
    for key, size in (
        (family.depth, shape.layers),
        (family.width, shape.width),
        (family.heads, shape.heads),
        (family.inner_size, shape.inner),
    ):
        setattr(config, key, size)
    if config.num_labels != outputs:
        config.num_labels = outputs
    config.problem_type = "regression" if outputs == 1 else "single_label_classification"
    with seeded(seed):
        student = type(source)(config)
    return student.float().eval()


def cut_student(
    source: PreTrainedModel,
    shape: Shape,
    layers: Sequence[int],
    outputs: int,
    *,
    at_random: bool = False,
    reinitialize: int = 0,
    seed: int = 0,
) -> PreTrainedModel:
    """Return a student whose layer l is cut out of source layer ``layers[l - 1]``, in eval mode and fp32.

    Embeddings, pooler and head are cut out of the source too; a head with another number of outputs is drawn.

    Args:
        source: an encoder with a classification head.
        shape: sizes of the student, none larger than the source's; ``shape.heads`` divides ``shape.width``.
        layers: source layers, from 1, one for each of the student's.
        at_random: choose what is kept at random instead of by importance.
        reinitialize: the top layers that are drawn again, and with them the pooler (Zhang et al. 2021).

    Raises:
        UserError: the sizes cannot be cut out of this source.
    """
    student = drawn_student(source, shape, outputs, seed)
    if (source.config.model_type == "electra") and _projected(source) != _projected(student):
        raise UserError(f"width {shape.width}: this ELECTRA's embeddings are as wide; choose another width")
    cut = _Cut(source, student, tuple(layers), seed if at_random else None)
    weights: Weights = {}
    for name, drawn in student.state_dict().items():
        kept = cut.weight(name)
        again = cut.layer_of(name) > len(layers) - reinitialize or (reinitialize and ".pooler." in name)
        weights[name] = drawn if again or kept.shape != drawn.shape else kept
    student.load_state_dict(weights)
    return student


def _projected(model: PreTrainedModel) -> bool:
    return hasattr(model.base_model, "embeddings_project")


@dataclass(frozen=True)
class _Kept:
    """Indices kept of one source layer, ascending."""

    query_key: Tensor
    value: Tensor
    inner: Tensor


class _Cut:
    """Which part of which source weight each weight of a student is."""

    def __init__(
        self, source: PreTrainedModel, student: PreTrainedModel, layers: tuple[int, ...], seed: int | None
    ) -> None:
        self.family: Family = family_of(source.config.model_type)
        self.layers = layers
        self.prefix = f"{layers_path(source)}."
        self.base = f"{source.base_model_prefix}."
        self.weights: Weights = {name: weight.detach().cpu() for name, weight in source.state_dict().items()}
        self.sizes = [self._sizes(model.config) for model in (source, student)]
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)
        self.projected = _projected(source)
        self.whole = self.sizes[0] == self.sizes[1]
        if self.whole:
            return
        width, kept = self.sizes[0][0], self.sizes[1][0]
        self.gain = (width / kept) ** 0.5
        self.residual = self._top(self._importance_of_residual(), kept)
        self.kept = {layer: self._kept_of(layer) for layer in sorted(set(layers))}
        dense, out = self.family.head
        self.pooled = self.residual  # the head of a token classifier reads the states themselves
        if f"{dense}.weight" in self.weights:
            pooled = self._row_norms(f"{dense}.weight") * self._column_norms(f"{out}.weight")
            self.pooled = self._top(pooled, kept)

    def _sizes(self, config: Any) -> tuple[int, int, int]:
        keys = (self.family.width, self.family.heads, self.family.inner_size)
        return cast("tuple[int, int, int]", tuple(getattr(config, key) for key in keys))

    def layer_of(self, name: str) -> int:
        """Return the student's layer that a weight belongs to, from 1; 0 outside the layers."""
        return int(name.removeprefix(self.prefix).split(".", 1)[0]) + 1 if name.startswith(self.prefix) else 0

    def weight(self, name: str) -> Tensor:
        """Return what a student's weight is cut to."""
        module, layer = name.rpartition(".")[0], self.layer_of(name)
        if layer:
            source = self.layers[layer - 1]
            name = name.replace(f"{self.prefix}{layer - 1}.", f"{self.prefix}{source - 1}.", 1)
        values = self.weights[name]
        if self.whole:
            return values
        if layer:
            part = module.removeprefix(f"{self.prefix}{layer - 1}.")
            rows, columns = self._axes_in_layer(part, self.kept[source])
        else:
            rows, columns = self._axes_outside(module)
        if rows is not None:
            values = values[rows]
        if columns is None or values.ndim < 2:
            return values
        reads_residual = columns is self.residual and not module.endswith("_embeddings")
        return values[:, columns] * (self.gain if reads_residual else 1.0)

    def _axes_in_layer(self, part: str, kept: _Kept) -> tuple[Tensor | None, Tensor | None]:
        """Return the rows and columns kept of a layer's linear map, or the elements of its LayerNorm."""
        family, residual = self.family, self.residual
        return {
            family.query: (kept.query_key, residual),
            family.key: (kept.query_key, residual),
            family.value: (kept.value, residual),
            family.attention_output: (residual, kept.value),
            family.inner: (kept.inner, residual),
            family.output: (residual, kept.inner),
            family.norms[0]: (residual, None),
            family.norms[1]: (residual, None),
        }[part]

    def _axes_outside(self, module: str) -> tuple[Tensor | None, Tensor | None]:
        dense, out = self.family.head
        if module == dense:
            return self.pooled, self.residual
        if module == out:
            return None, self.pooled
        if module == f"{self.base}embeddings_project":
            return self.residual, None
        if self.projected:
            return None, None
        # Tables of embeddings have a row a word; their LayerNorm has one an element.
        return (self.residual, None) if module.endswith("LayerNorm") else (None, self.residual)

    # Importance

    def _kept_of(self, layer: int) -> _Kept:
        family, prefix = self.family, f"{self.prefix}{layer - 1}."
        (_, heads, _), (width, kept_heads, kept_inner) = self.sizes
        query, key, value, output = (
            self.weights[f"{prefix}{part}.weight"].float()
            for part in (family.query, family.key, family.value, family.attention_output)
        )
        query, key, value = (each[:, self.residual] for each in (query, key, value))
        written = output[self.residual].T  # (H * d, D), as the others
        chosen = self._top(head_importance(query, key, value, written, heads), kept_heads)
        head_width = width // kept_heads
        query_key = self._inside(chosen, query.norm(dim=1) * key.norm(dim=1), head_width)
        of_value = self._inside(chosen, value.norm(dim=1) * written.norm(dim=1), head_width)
        neurons = self._column_norms(f"{prefix}{family.output}.weight")
        return _Kept(query_key, of_value, self._top(neurons, kept_inner))

    def _inside(self, chosen: Tensor, importance: Tensor, count: int) -> Tensor:
        """Return, of each chosen head, the ``count`` most important dimensions, as indices of all heads concatenated.

        chosen: indices of heads; importance: (H * d,).
        """
        per_head = importance.unflatten(0, (self.sizes[0][1], -1))
        return torch.cat([head * per_head.shape[1] + self._top(per_head[head], count) for head in chosen])

    def _importance_of_residual(self) -> Tensor:
        """Return the sum of all LayerNorms' gains for each dimension; shape (width,)."""
        norms = [f"{self.prefix}{layer - 1}.{norm}" for layer in set(self.layers) for norm in self.family.norms]
        if not self.projected:
            norms.append(f"{self.base}embeddings.LayerNorm")
        return torch.stack([self.weights[f"{norm}.weight"].float().abs() for norm in norms]).sum(0)

    def _row_norms(self, name: str) -> Tensor:
        return self.weights[name].float().norm(dim=1)

    def _column_norms(self, name: str) -> Tensor:
        return self.weights[name].float().norm(dim=0)

    def _top(self, importance: Tensor, count: int) -> Tensor:
        """Return the ``count`` indices of the greatest importance, or random ones, ascending."""
        if self.generator is not None:
            return torch.randperm(len(importance), generator=self.generator)[:count].sort().values
        # Stable, so that equals are decided by their place on every machine.
        return importance.cpu().sort(descending=True, stable=True).indices[:count].sort().values
