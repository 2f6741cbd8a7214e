"""Where each supported encoder family keeps its layers, the parts of a layer, and its sizes.

Free of torch, so that a plan can be checked before anything heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from internal_kd.errors import UserError, nearest

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Family:
    """Names of an encoder family's modules and config keys.

    Attributes:
        layers: from the base model to the list of layers.
        attention: from a layer to the module that calls the attention function.
        query, key, value, attention_output: from a layer to the linear maps of attention.
        inner, output: from a layer to the two linear maps of its feed-forward part.
        norms: from a layer to its LayerNorms, in the order they are applied.
        head: from the whole model to the two linear maps that turn [CLS] into logits.
        width, depth, heads, inner_size: keys of ``config.json``.
    """

    layers: str = "encoder.layer"
    attention: str = "attention.self"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    attention_output: str = "attention.output.dense"
    inner: str = "intermediate.dense"
    output: str = "output.dense"
    norms: tuple[str, str] = ("attention.output.LayerNorm", "output.LayerNorm")
    head: tuple[str, str] = ("classifier.dense", "classifier.out_proj")
    width: str = "hidden_size"
    depth: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    inner_size: str = "intermediate_size"


_ROBERTA = Family()
FAMILIES = {
    "bert": Family(head=("bert.pooler.dense", "classifier")),
    "camembert": _ROBERTA,
    "distilbert": Family(
        layers="transformer.layer",
        attention="attention",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_output="attention.out_lin",
        inner="ffn.lin1",
        output="ffn.lin2",
        norms=("sa_layer_norm", "output_layer_norm"),
        head=("pre_classifier", "classifier"),
        width="dim",
        depth="n_layers",
        heads="n_heads",
        inner_size="hidden_dim",
    ),
    "electra": _ROBERTA,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}


def family_of(model_type: str) -> Family:
    """Return the family of a config's ``model_type``; raises UserError when it is not supported."""
    if model_type not in FAMILIES:
        near = nearest(model_type, list(FAMILIES))
        raise UserError(f"encoders of type {model_type!r} are not supported{near}; supported are {', '.join(FAMILIES)}")
    return FAMILIES[model_type]


def layers_path(model: PreTrainedModel) -> str:
    """Return the name of the list of encoder layers as it stands in the model's state dict, without a final dot."""
    layers = family_of(model.config.model_type).layers
    return layers if model.base_model is model else f"{model.base_model_prefix}.{layers}"


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Return the encoder's layers, lowest first."""
    return cast("nn.ModuleList", model.get_submodule(layers_path(model)))


def layer_parts(model: PreTrainedModel, part: str) -> list[nn.Module]:
    """Return one part of every encoder layer, lowest first; ``part`` is an attribute of `Family`, such as ``query``."""
    path = getattr(family_of(model.config.model_type), part)
    return [layer.get_submodule(path) for layer in encoder_layers(model)]
