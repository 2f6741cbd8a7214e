"""Where each supported encoder family keeps its layers and their self-attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from internal_kd.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Family:
    """Paths of attributes: from the base model to the list of layers, and from a layer to its self-attention."""

    layers: str
    attention: str


_BERT = Family(layers="encoder.layer", attention="attention.self")
FAMILIES = {
    "bert": _BERT,
    "camembert": _BERT,
    "distilbert": Family(layers="transformer.layer", attention="attention"),
    "electra": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
}


def family_of(model_type: str) -> Family:
    """Return the family of a config's ``model_type``; raises UserError when it is not supported."""
    if model_type not in FAMILIES:
        raise UserError(f"encoders of type {model_type!r} are not supported; supported are {', '.join(FAMILIES)}")
    return FAMILIES[model_type]


def layers_path(model: PreTrainedModel) -> str:
    """Return the name of the list of encoder layers as it stands in the model's state dict, without a final dot."""
    layers = family_of(model.config.model_type).layers
    return layers if model.base_model is model else f"{model.base_model_prefix}.{layers}"


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Return the encoder's layers, lowest first."""
    return cast("nn.ModuleList", model.get_submodule(layers_path(model)))


def attention_modules(model: PreTrainedModel) -> list[nn.Module]:
    """Return the self-attention module of every encoder layer, lowest first."""
    path = family_of(model.config.model_type).attention
    return [layer.get_submodule(path) for layer in encoder_layers(model)]
