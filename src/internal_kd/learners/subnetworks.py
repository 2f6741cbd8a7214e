"""Sub-networks of an encoder: the first heads and neurons of every layer, some of the layers.

While it is trained an adaptive encoder computes a sub-network with slices of its own weights, so that nothing is
computed that the sub-network does not have, and gradients reach the weights that are sliced:

    network = AdaptiveNetwork(model, widths=(1.0, 0.5), depths=(1.0,))
    network.begin(batches)  # the most important heads and neurons come first
    network.current = 1
    network.read(batch)     # in train mode: at width 0.5
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from internal_kd.learners.adaptive import kept_layers, share_of
from internal_kd.learners.blocks import Blocks, drawn, install, keep_part
from internal_kd.learners.capture import EncoderNetwork
from internal_kd.learners.families import Family, encoder_layers, family_of, layers_path
from internal_kd.learners.learner import RANKED, STATES
from internal_kd.learners.rows import by_row

# Examples of a gradient that importance is read from, as many as the authors' batches have.
_AT_ONCE = 32


def narrowed(family: Family) -> dict[str, tuple[int, str]]:
    """Return the weights of a layer that shrink with its width: their axis, and whether by ``heads`` or ``inner``."""
    rows = {family.query: "heads", family.key: "heads", family.value: "heads", family.inner: "inner"}
    found = {f"{path}.{name}": (0, of) for path, of in rows.items() for name in ("weight", "bias")}
    return found | {f"{family.attention_output}.weight": (1, "heads"), f"{family.output}.weight": (1, "inner")}


class AdaptiveNetwork(EncoderNetwork):
    """An encoder that is, in train mode, the sub-network whose pass it is, and in eval mode itself."""

    hands_out = STATES

    def __init__(self, module: PreTrainedModel, widths: tuple[float, ...], depths: tuple[float, ...]) -> None:
        """Take a model of a known family; it is ranked and trained in place."""
        super().__init__(module)
        self.sizes = [(width, depth) for depth in depths for width in widths]
        self.passes = len(self.sizes)
        self._trained_at = {"widths": list(widths), "depths": list(depths)}

    def compute(self, inputs: Mapping[str, Tensor]) -> Any:
        """Return what the sub-network of this pass gives for the module's inputs."""
        if not self.module.training:
            return super().compute(inputs)
        width, depth = self.sizes[self.current]
        skipped = set(range(self.layers)) - set(kept_layers(self.layers, depth))
        with _handing_on([self._layers[number] for number in skipped]):
            return functional_call(self.module, first_of(self.module, width), kwargs=dict(inputs))

    def begin(self, batches: Callable[[], Iterable[Mapping[str, Tensor]]]) -> None:
        """Rank heads and neurons by their importance for these examples, unless that was done for its first weights."""
        if hasattr(self.module.config, RANKED):
            return
        found = importance(self, batches())
        sizes = sizes_of(self.module)
        with torch.no_grad():
            for layer, of_layer in zip(self._layers, found, strict=True):
                for name, (axis, of) in narrowed(family_of(self.module.config.model_type)).items():
                    order = of_layer[of].sort(descending=True, stable=True).indices
                    weight = layer.get_parameter(name)
                    grouped = weight.unflatten(axis, (sizes[of], -1))
                    weight.copy_(grouped.index_select(axis, order.to(weight.device)).flatten(axis, axis + 1))
        setattr(self.module.config, RANKED, self._trained_at)

    def save(self, folder: Path) -> None:
        """Write the encoder at full size; its config names widths and depths."""
        setattr(self.module.config, RANKED, self._trained_at)
        super().save(folder)


def sizes_of(model: PreTrainedModel) -> dict[str, int]:
    """Return how many heads and neurons a layer has."""
    family = family_of(model.config.model_type)
    return {"heads": getattr(model.config, family.heads), "inner": getattr(model.config, family.inner_size)}


def first_of(model: PreTrainedModel, width: float) -> dict[str, Tensor]:
    """Return the weights of the first heads and neurons of every layer by name, as views."""
    sizes, path = sizes_of(model), layers_path(model)
    found = {}
    for number, layer in enumerate(encoder_layers(model)) if width < 1 else ():
        for name, (axis, of) in narrowed(family_of(model.config.model_type)).items():
            weight = layer.get_parameter(name)
            kept = weight.shape[axis] // sizes[of] * share_of(width, sizes[of])
            found[f"{path}.{number}.{name}"] = weight.narrow(axis, 0, kept)
    return found


def importance(network: EncoderNetwork, batches: Iterable[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Return of every layer how much the loss of true labels depends on each of its ``heads`` and ``inner`` neurons.

    Of a head |dL / d xi|, xi the factor of what it writes; of a neuron |w1 dL/dw1 + b1 dL/db1| + |w2 dL/dw2|, summed
    over the weights into and out of it (Hou et al. 2020, section 2.1). Both are summed over batches of 32 examples,
    each with gradients of its own; dropout is off.
    """
    model = network.module
    family, heads = family_of(model.config.model_type), sizes_of(model)["heads"]
    layers = encoder_layers(model)
    found: list[dict[str, Tensor]] = [{} for _ in layers]
    paths = [f"{family.attention_output}.weight", f"{family.inner}.weight", f"{family.inner}.bias"]
    weights = [[layer.get_parameter(path) for path in (*paths, f"{family.output}.weight")] for layer in layers]
    was_training = model.training
    model.eval()
    for batch in (part for whole in batches for part in _of_like_length(whole)):
        logits, labels = network.read(batch)["logits", 0].float(), by_row(batch["labels"], batch)
        if labels.is_floating_point():
            loss = F.mse_loss(logits[:, 0], labels)
        else:
            loss = F.cross_entropy(logits, labels, ignore_index=-1)
        slopes = iter(torch.autograd.grad(loss, [weight for of_layer in weights for weight in of_layer]))
        for of_layer, scores in zip(weights, found, strict=True):
            written, into, bias, out = (weight.detach() * next(slopes) for weight in of_layer)
            of_heads = written.sum(0).unflatten(0, (heads, -1)).sum(1).abs()
            of_neurons = (into.sum(1) + bias).abs() + out.sum(0).abs()
            for name, score in (("heads", of_heads), ("inner", of_neurons)):
                scores[name] = scores.get(name, 0) + score
    model.train(was_training)
    return found


def _of_like_length(batch: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Cut a batch into small ones of about the same length, without the padding that they do not need."""
    lengths = batch["attention_mask"].sum(1)
    padded = batch["attention_mask"].shape[1]
    for chosen in lengths.argsort(stable=True).split(_AT_ONCE):
        longest = int(lengths[chosen].max())
        yield {
            name: values[chosen.to(values.device)][:, :longest]
            if values.ndim > 1 and values.shape[1] == padded
            else values[chosen.to(values.device)]
            for name, values in batch.items()
        }


def cut(model: PreTrainedModel, width: float, depth: float) -> PreTrainedModel:
    """Return a sub-network as a model of its own: fewer layers, neurons and heads; the model is changed in place."""
    family, config, sizes = family_of(model.config.model_type), model.config, sizes_of(model)
    layers = encoder_layers(model)
    kept = nn.ModuleList(layers[number] for number in kept_layers(len(layers), depth))
    model.set_submodule(layers_path(model), kept)
    inner = share_of(width, sizes["inner"])
    for layer in kept:
        keep_part(cast("nn.Linear", layer.get_submodule(family.inner)), rows=slice(inner))
        keep_part(cast("nn.Linear", layer.get_submodule(family.output)), columns=slice(inner))
    setattr(config, family.depth, len(kept))
    setattr(config, family.inner_size, inner)
    vars(config).pop(RANKED, None)
    heads = share_of(width, sizes["heads"])
    return install(model, Blocks(kept_heads=heads), drawn) if heads < sizes["heads"] else model


@contextmanager
def _handing_on(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Let layers return what they are given, inside the block."""
    chosen = list(layers)
    for layer in chosen:
        layer.__dict__["forward"] = _handed_on
    try:
        yield
    finally:
        for layer in chosen:
            del layer.__dict__["forward"]


def _handed_on(states: Tensor, *_: Any, **__: Any) -> Tensor:
    return states
