"""Reading what an encoder computes inside, from one ordinary forward pass.

transformers' eager attention returns its weights AFTER dropout, and with its fused attention ``output_attentions``
gives an empty tuple. The attention function registered here keeps the log-softmax of the masked scores for the layers
asked for, and leaves every other layer to fused attention:

    network = network_of(model)
    captured = network.read(batch, frozenset({("logits", 0), ("attention", 2), ("cls", 2)}))
    captured["attention", 2]   # (B, H, n, n) log-probabilities, fp32
    captured["cls", 2]         # (B, D) state of [CLS] leaving layer 2

learner.py lists every kind.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from internal_kd.errors import UserError
from internal_kd.learners import quick
from internal_kd.learners.families import FAMILIES, encoder_layers, layer_parts
from internal_kd.learners.learner import EVERYTHING, LOGITS, Captured, Network, ParameterCount, Wanted, check_wanted
from internal_kd.learners.rows import by_row
from internal_kd.learners.weights import save_classifier

IMPLEMENTATION = "internal_kd"
# Where the attention function finds what to keep: a mapping from a kind to the function that takes the tensor.
_KEEP = "_internal_kd_keep"
OF_SCORES = ("attention", "attention_lse", "scores")
PROJECTIONS = {"queries": "query", "keys": "key", "values": "value"}


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend as eager attention does, keeping what the module was asked to keep; fused when that is nothing.

    query, key, value: (B, H, n, head width); attention_mask: (B, 1, n, n), True = attend, or None when nothing is
    padded. Returns (B, n, H, head width).
    """
    keep: Mapping[str, Callable[[Tensor], None]] | None = module.__dict__.get(_KEEP)
    # With dropout, torch's fused attention for CPUs falls back to plain steps, and draws slowly.
    if keep is None and (query.device.type != "cpu" or not module.training or dropout == 0.0):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    scores = (query * (query.shape[-1] ** -0.5 if scaling is None else scaling)) @ key.transpose(2, 3)
    if attention_mask is not None:
        # The finite minimum, not -inf: a row without any real key must stay a row of numbers, gradients included.
        scores = scores.masked_fill_(~attention_mask, torch.finfo(scores.dtype).min)
    if keep is None:
        weights = F.softmax(scores, dim=-1)
    else:
        log_probs = F.log_softmax(scores, dim=-1, dtype=torch.float32)
        if "attention" in keep:
            keep["attention"](log_probs)
        if "attention_lse" in keep:
            keep["attention_lse"](torch.logsumexp(scores.float(), dim=-1))
        if "scores" in keep:
            keep["scores"](scores.float())
        weights = log_probs.exp()
    weights = quick.dropout(weights.to(value.dtype), dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous(), None


# Without a mask function of the same name transformers passes no mask at all, and padding is attended to. The boolean
# mask serves both ways of attending; the additive one would reach fused attention as -inf once autocast narrows it.
AttentionInterface.register(IMPLEMENTATION, _attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)


class ClassifierNetwork(Network):
    """Any of transformers' classifiers of texts or tokens; of an unknown family, or a decoder: logits alone."""

    hands_out = frozenset({"logits"})

    def __init__(self, module: PreTrainedModel) -> None:
        """Take a model; it is read, trained and saved in place."""
        self.module: PreTrainedModel = module
        config = module.config
        self.layers = int(getattr(config, "num_hidden_layers", 0) or 0)
        self.width = int(getattr(config, "hidden_size", 0) or 0)
        self.heads = int(getattr(config, "num_attention_heads", 0) or 0)
        self._inputs = frozenset(inspect.signature(type(module).forward).parameters) - {"self", "labels"}

    def read(self, batch: Mapping[str, Tensor], wanted: Wanted = LOGITS) -> Captured:
        """Return what is asked for, as `Network.read` describes."""
        inputs = self._inputs_of(batch, wanted)
        return {("logits", 0): by_row(self.module(**inputs).logits, batch)}

    def _inputs_of(self, batch: Mapping[str, Tensor], wanted: Wanted) -> dict[str, Tensor]:
        if not wanted:
            raise UserError("nothing was asked of a network; name at least one pair of a kind and a layer")
        check_wanted(wanted, self.layers, self.hands_out, f"this {self.module.config.model_type}")
        return {name: values for name, values in batch.items() if name in self._inputs}

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        save_classifier(self.module, folder)

    def count_parameters(self) -> ParameterCount:
        """Count parameters without the classification head.

        BERT-base of 12 layers: 85,645,056 and 109,482,240. The pooler counts where it belongs to the base model
        (BERT); the dense layer that RoBERTa, ELECTRA and DistilBERT put into their head does not.
        """
        sizes = [(name, weight.numel()) for name, weight in self.module.base_model.named_parameters()]
        total = sum(size for _, size in sizes)
        # ELECTRA's projection of narrow embeddings, "embeddings_project", counts as embeddings.
        return ParameterCount(total - sum(size for name, size in sizes if name.startswith("embeddings")), total)


class EncoderNetwork(ClassifierNetwork):
    """An encoder of a known family: everything can be read."""

    hands_out = EVERYTHING

    def __init__(self, module: PreTrainedModel) -> None:
        """Take a model of a family in `FAMILIES`."""
        super().__init__(module)
        self._layers = list(encoder_layers(module))
        self._attentions = layer_parts(module, "attention")
        self._projections = {kind: layer_parts(module, part) for kind, part in PROJECTIONS.items()}

    def freeze(self) -> Network:
        """Freeze it for good, as `Network.freeze` does.

        From here on no layer uses fused attention, which rounds differently: what a teacher answers must not depend on
        which of its layers others ask for.
        """
        for attention in self._attentions:
            attention.__dict__[_KEEP] = {}
        return super().freeze()

    def read(self, batch: Mapping[str, Tensor], wanted: Wanted = LOGITS) -> Captured:
        """Return what is asked for, as `Network.read` describes."""
        inputs = self._inputs_of(batch, wanted)
        with _our_attention(self.module.config):
            if wanted == LOGITS:
                return {("logits", 0): by_row(self.compute(inputs).logits, batch)}
            captured = self._capture(inputs, wanted - LOGITS, whole=bool(wanted & LOGITS))
        if ("logits", 0) in captured:
            captured["logits", 0] = by_row(captured["logits", 0], batch)
        return captured

    def compute(self, inputs: Mapping[str, Tensor]) -> Any:
        """Return what the module gives for its inputs."""
        return self.module(**inputs)

    def _capture(self, inputs: dict[str, Tensor], inside: Wanted, whole: bool) -> Captured:
        if self.module.training and self.module.is_activation_checkpointing:
            # What is captured would come from a pass that is thrown away and computed again in backward.
            raise UserError("gradient checkpointing is on; internals can only be captured with it off")
        captured: Captured = {}

        def keep(kind: str, layer: int, values: Tensor) -> None:
            if (kind, layer) in inside:
                captured[kind, layer] = values
                if not whole and len(captured) == len(inside):
                    raise _Stopped

        output = None
        with ExitStack() as stack:
            for layer in sorted({layer for _, layer in inside}):
                kinds = {kind for kind, at in inside if at == layer}
                self._hook(stack, layer, kinds, keep)
            with suppress(_Stopped):
                output = self.compute(inputs)
        if missing := sorted(inside - captured.keys()):
            asked = ", ".join(f"{kind} of layer {layer}" for kind, layer in missing)
            raise UserError(f"{asked} was not computed by the forward pass of {type(self.module).__name__}")
        return {("logits", 0): output.logits, **captured} if output is not None else captured

    def _hook(self, stack: ExitStack, layer: int, kinds: set[str], keep: Callable[[str, int, Tensor], None]) -> None:
        """Have the kinds of one layer kept while the stack is open."""
        states = kinds & {"hidden", "cls"}

        def keep_states(values: Tensor) -> None:
            if "cls" in states:
                keep("cls", layer, values[:, 0])
            keep("hidden", layer, values)

        if states and layer == 0:
            # What enters the first layer; ELECTRA projects its embeddings after their module.
            first = self._layers[0].register_forward_pre_hook(lambda _, inputs: keep_states(inputs[0]))
            stack.callback(first.remove)
        elif states:
            stack.callback(self._layers[layer - 1].register_forward_hook(lambda *x: keep_states(x[2])).remove)
        for kind in kinds & PROJECTIONS.keys():
            projection = self._projections[kind][layer - 1]
            hook = projection.register_forward_hook(lambda *x, kind=kind: keep(kind, layer, x[2]))
            stack.callback(hook.remove)
        if of_scores := kinds & set(OF_SCORES):
            attention = self._attentions[layer - 1].__dict__
            stack.callback(_put_back, attention, attention.get(_KEEP))
            attention[_KEEP] = {kind: lambda values, kind=kind: keep(kind, layer, values) for kind in of_scores}


def network_of(model: PreTrainedModel) -> ClassifierNetwork:
    """Return the network of a plain transformers sequence classifier; the model itself is not changed.

    Example:
        >>> network = network_of(AutoModelForSequenceClassification.from_pretrained(folder))  # doctest: +SKIP
        >>> network.read(batch)["logits", 0].shape  # doctest: +SKIP
        torch.Size([32, 2])
    """
    known = model.config.model_type in FAMILIES and not getattr(model.config, "is_decoder", False)
    return EncoderNetwork(model) if known else ClassifierNetwork(model)


def _put_back(attention: dict[str, Any], before: Mapping[str, Any] | None) -> None:
    if before is None:
        del attention[_KEEP]
    else:
        attention[_KEEP] = before


class _Stopped(Exception):
    """Ends a forward pass early; never leaves this module."""


@contextmanager
def _our_attention(config: Any) -> Iterator[None]:
    """Attend by the function above inside the block only: a model that is read stays a plain transformers model."""
    before = config._attn_implementation
    config._attn_implementation = IMPLEMENTATION
    try:
        yield
    finally:
        config._attn_implementation = before
