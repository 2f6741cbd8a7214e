"""Cheap blocks: feed-forward maps of low rank or in groups, queries and keys that layers share, heads left out.

Layers keep their number and width (Crowley, Gray and Storkey 2018, Moonshine, arXiv 1711.02613, whose convolutions are
linear maps here). Only ``kept_heads``, some of a layer's heads, each as wide as before, leaves attention's own kinds
without a counterpart. With D the width, I the inner neurons, r the rank and g the groups:

| | first map | second map | weights |
|---|---|---|---|
| ``rank`` | D to r to I | I to r to D | 2 r (D + I) |
| ``groups`` | D to I in g groups | I to D in g groups, D to D | 2 D I / g + D^2 |
| both | D to r, r to I in g groups | I to r in g groups, r to D | 2 r (D + I / g) |

With a rank, first weights are the closest ones to those of the source: singular values of each map, or of each group's
part of it. Groups without a rank read a part of the width each, which no weights of the source fit: they are drawn.

Compared on the 6-layer MiniLM before any training (linear CKA of the last layer's token states with the source's, 100
questions of TREC-6): half of the neurons, chosen by importance, keep 0.82, a quarter 0.69, rank 96 0.73, rank 48 0.68,
rank 192 in 4 groups with half of the neurons 0.68, keys shared by two layers 0.79. Drawn maps keep 0.55 (rank 96) and
0.58 (4 groups); the source's weights cut into 4 groups, each neuron where it reads most, keep 0.37, less than drawn.

All of these are linear maps, so a finished model can be multiplied out into a plain one that computes the same; in it
heads that were left out are zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from internal_kd.learners.families import Family, encoder_layers, family_of

# Where a model's config names its blocks; transformers itself does not read it.
KEY = "cheap_blocks"


@dataclass(frozen=True)
class Blocks:
    """What is cheaper in every layer, as `EncoderLearner` has it."""

    rank: int | None = None
    groups: int = 1
    shared_keys: int = 1
    kept_heads: int | None = None

    @property
    def cheaper_forward(self) -> bool:
        """Whether the feed-forward maps are replaced."""
        return self.rank is not None or self.groups > 1


class Product(nn.Module):
    """A linear map that is a product of cheaper ones.

    Attributes:
        factors: in the order in which they are applied: dense (out, in), or in groups (g, out / g, in / g).
        bias: (out,).
    """

    def __init__(self, factors: Sequence[Tensor], bias: Tensor) -> None:
        super().__init__()
        self.factors = nn.ParameterList([factor.contiguous() for factor in factors])
        self.bias = nn.Parameter(bias)

    def forward(self, values: Tensor) -> Tensor:
        """Return (..., out) of values (..., in)."""
        for factor in self.factors:
            if factor.ndim == 2:
                values = F.linear(values, factor)
            else:
                grouped = values.unflatten(-1, (factor.shape[0], factor.shape[2]))
                values = torch.einsum("...gi,goi->...go", grouped, factor).flatten(-2)
        return values + self.bias.to(values.dtype)

    def multiplied_out(self) -> nn.Linear:
        """Return the same map as one matrix."""
        dense = [factor.double() if factor.ndim == 2 else torch.block_diag(*factor.double()) for factor in self.factors]
        total = dense[0]
        for factor in dense[1:]:
            total = factor @ total
        return _linear(total, self.bias)


class Shared(nn.Module):
    """A linear map with the weights of another layer's, which alone are trained and saved."""

    of: nn.Linear

    def __init__(self, of: nn.Linear) -> None:
        super().__init__()
        self.__dict__["of"] = of  # not a part: its weights would be saved, and handed to an optimizer, twice

    def forward(self, values: Tensor) -> Tensor:
        """Return (..., out) of values (..., in)."""
        return F.linear(values, self.of.weight, self.of.bias)

    def multiplied_out(self) -> nn.Linear:
        """Return a map with weights of its own."""
        return _linear(self.of.weight, self.of.bias)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    made = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    with torch.no_grad():
        made.weight.copy_(weight)
        made.bias.copy_(bias)
    return made


Maps = tuple[list[Tensor], list[Tensor]]
Make = Callable[[Tensor, Tensor, Blocks], Maps]


def closest(first: Tensor, second: Tensor, blocks: Blocks) -> Maps:
    """Return the factors that come closest to a layer's two maps, (I, D) and (D, I); without a rank, `drawn` ones."""
    if blocks.rank is None:
        return drawn(first, second, blocks)
    wide, grouped = _factored(first, blocks.groups, blocks.rank)
    of_second, written = _factored(second.T, blocks.groups, blocks.rank)
    return [wide, _maybe_dense(grouped)], [_maybe_dense(written.transpose(1, 2)), of_second.T]


def drawn(first: Tensor, second: Tensor, blocks: Blocks) -> Maps:
    """Return random factors for maps (I, D) and (D, I), so that each entry of a product has a deviation of 0.02."""
    (inner, width), groups, spread = first.shape, blocks.groups, 0.02
    rank = blocks.rank or width
    by = (spread / (rank / groups) ** 0.5) ** 0.5

    def draw(*shape: int, by: float = by) -> Tensor:
        return _maybe_dense(torch.empty(shape).normal_(0.0, by))

    of_second = [draw(groups, rank // groups, inner // groups), draw(1, width, rank)]
    if blocks.rank is None:
        return [draw(groups, inner // groups, width // groups, by=spread)], of_second
    return [draw(1, rank, width), draw(groups, inner // groups, rank // groups)], of_second


def _maybe_dense(grouped: Tensor) -> Tensor:
    return grouped[0] if len(grouped) == 1 else grouped


def _factored(weight: Tensor, groups: int, rank: int) -> tuple[Tensor, Tensor]:
    """Return a map (out, in) as a dense one (rank, in) before one in groups (g, out / g, rank / g)."""
    wide, grouped = [], []
    for part in weight.float().chunk(groups):
        u, s, v = torch.linalg.svd(part, full_matrices=False)
        kept = rank // groups
        wide.append(s[:kept, None].sqrt() * v[:kept])
        grouped.append(u[:, :kept] * s[:kept].sqrt())
    return torch.cat(wide), torch.stack(grouped)


def head_importance(query: Tensor, key: Tensor, value: Tensor, written: Tensor, heads: int) -> Tensor:
    """Return |W_query^T W_key| * |W_output W_value| of every head, (H,): how selective it is, times how much it writes.

    All maps are (H * d, D), that of the output transposed.
    """

    def norms(first: Tensor, second: Tensor) -> Tensor:
        """Return the Frobenius norms of first^T second, head by head."""
        first, second = first.unflatten(0, (heads, -1)), second.unflatten(0, (heads, -1))
        return (first.transpose(1, 2) @ second).flatten(1).norm(dim=1)

    return norms(query, key) * norms(written, value)


def _keep_heads(layer: nn.Module, family: Family, heads: int, kept: int, chosen: bool) -> None:
    """Leave the most important heads of a layer, or the first ones where they are not to be ``chosen``."""
    paths = (family.query, family.key, family.value, family.attention_output)
    maps = [cast("nn.Linear", layer.get_submodule(path)) for path in paths]
    rows: Tensor | slice = slice(kept * (maps[0].out_features // heads))
    if chosen:
        query, key, value, output = (found.weight.detach() for found in maps)
        importance = head_importance(query, key, value, output.T, heads)
        places = importance.sort(descending=True, stable=True).indices[:kept].sort().values
        rows = torch.arange(len(query), device=query.device).view(heads, -1)[places].flatten()
    for found in maps[:3]:
        keep_part(found, rows=rows)
    keep_part(maps[3], columns=rows)


def keep_part(linear: nn.Linear, *, rows: Tensor | slice | None = None, columns: Tensor | slice | None = None) -> None:
    """Make a linear map smaller, in place: some of its rows, with their biases, or of its columns."""
    weight, bias = linear.weight.detach(), linear.bias.detach()
    if rows is not None:
        weight, bias = weight[rows], bias[rows]
    if columns is not None:
        weight = weight[:, columns]
    linear.weight, linear.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    linear.out_features, linear.in_features = weight.shape


def install(model: PreTrainedModel, blocks: Blocks, make: Make = closest) -> PreTrainedModel:
    """Replace what ``blocks`` names in every layer of a plain model, in place; its config remembers it.

    Args:
        make: the replaced maps' first weights: `closest`, or `drawn` from torch's random state. Of heads `closest`
            keeps the most important ones, `drawn` the first.
    """
    family = family_of(model.config.model_type)
    layers = list(encoder_layers(model))
    for layer in layers if blocks.cheaper_forward else ():
        first, second = (cast("nn.Linear", layer.get_submodule(path)) for path in (family.inner, family.output))
        with torch.no_grad():
            of_first, of_second = make(first.weight, second.weight, blocks)
        layer.set_submodule(family.inner, Product(of_first, first.bias.detach()))
        layer.set_submodule(family.output, Product(of_second, second.bias.detach()))
    for layer in layers if blocks.kept_heads else ():
        heads = getattr(model.config, family.heads)
        _keep_heads(layer, family, heads, blocks.kept_heads or heads, chosen=make is closest)
    for number, layer in enumerate(layers):
        if number % blocks.shared_keys:
            owner = layers[number - number % blocks.shared_keys]
            for path in (family.query, family.key):
                layer.set_submodule(path, Shared(cast("nn.Linear", owner.get_submodule(path))))
    setattr(model.config, KEY, asdict(blocks))
    return model.train(model.training)


def blocks_of(config: Any) -> Blocks | None:
    """Return the blocks that a model's config names, None for a plain model."""
    named = getattr(config, KEY, None)
    return Blocks(**named) if named else None


def with_blocks(plain: type[PreTrainedModel], blocks: Blocks) -> type[PreTrainedModel]:
    """Return a class of models that have these blocks from the start, so that their weights can be loaded into them."""

    def build(self: Any, config: Any, *arguments: Any, **options: Any) -> None:
        plain.__init__(self, config, *arguments, **options)
        install(self, blocks, drawn)

    return cast("type[PreTrainedModel]", type(plain.__name__, (plain,), {"__init__": build, "plain": plain}))


def multiplied_out(model: PreTrainedModel) -> PreTrainedModel:
    """Return a plain model that computes the same: a copy, or a model without cheap blocks as it is."""
    if blocks_of(model.config) is None:
        return model
    copied = deepcopy(model)
    for name, module in list(copied.named_modules()):
        if isinstance(module, Product | Shared):
            copied.set_submodule(name, module.multiplied_out())
    if blocks_of(model.config).kept_heads:  # type: ignore[union-attr]
        for path in ("query", "key", "value", "attention_output"):
            _fill_with_zeros(copied, path)
    delattr(copied.config, KEY)
    copied.__class__ = getattr(type(copied), "plain", type(copied))
    return copied.train(model.training)


def _fill_with_zeros(model: PreTrainedModel, part: str) -> None:
    """Make one map of every layer as large as all heads have it; those that were left out are zeros."""
    family = family_of(model.config.model_type)
    path, width = getattr(family, part), getattr(model.config, family.width)
    for layer in encoder_layers(model):
        found = cast("nn.Linear", layer.get_submodule(path))
        weight, bias = torch.zeros(width, width), torch.zeros(width)
        weight[: found.out_features, : found.in_features] = found.weight.detach()
        bias[: found.out_features] = found.bias.detach()
        layer.set_submodule(path, _linear(weight, bias))
