"""Attention maps before dropout and [CLS] states of chosen layers, from one ordinary forward pass.

transformers' eager attention hands out its weights AFTER dropout and its fused attention hands out nothing, silently
(METHOD.md, traps 1 to 3). The attention function registered here keeps the log-softmax of the masked scores for the
layers asked for, and leaves every other layer to fused attention:

    recorder = record_internals(model)
    with recorder.capture(attention_layers={2, 4}, cls_layers={2, 4}) as captured:
        logits = model(**batch).logits
    captured.attention[2]   # (batch, heads, query, key) log-probabilities, fp32
    captured.cls[2]         # (batch, width) state of [CLS] leaving layer 2
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from internal_kd.errors import UserError
from internal_kd.models import dropout as quick
from internal_kd.models.families import attention_modules, encoder_layers

IMPLEMENTATION = "internal_kd"
_KEEP = "_internal_kd_keep"


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
    """Attend as eager attention does, handing log-probabilities to the module's keeper; fused when it has none.

    query, key, value: (batch, heads, length, head width); attention_mask: (batch, 1, query, key), True = attend, or
    None when nothing is padded. Returns (batch, length, heads, head width).
    """
    keep: Callable[[Tensor], None] | None = module.__dict__.get(_KEEP)
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
        keep(log_probs)
        weights = log_probs.exp()
    weights = quick.dropout(weights.to(value.dtype), dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous(), None


# Without a mask function of the same name transformers passes no mask at all (METHOD.md, trap 3). The boolean mask
# serves both ways of attending; the additive one would reach fused attention as -inf once autocast narrows it to bf16.
AttentionInterface.register(IMPLEMENTATION, _attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)


@dataclass
class Captured:
    """What the last forward pass inside a capture left, by encoder layer counted from 1.

    attention: (batch, heads, query, key) log-probabilities before dropout, fp32, very negative on padding keys;
    cls: (batch, width) hidden state at position 0 leaving the layer.
    """

    attention: dict[int, Tensor] = field(default_factory=dict)
    cls: dict[int, Tensor] = field(default_factory=dict)


class Recorder:
    """Captures a model's attention maps and [CLS] states; made by `record_internals`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._layers = list(encoder_layers(model))
        self._attentions = attention_modules(model)

    @contextmanager
    def capture(
        self, attention_layers: Collection[int] = (), cls_layers: Collection[int] = (), upto: int | None = None
    ) -> Iterator[Captured]:
        """Fill the yielded Captured during forward passes inside the block.

        With ``upto = l`` the model stops after encoder layer l: no layer above it and no head is computed, and calling
        the model returns None. What is captured, and its gradients, are the same as in the whole pass.
        Raises UserError when a layer does not exist or lies above ``upto``, and at the block's end when a layer asked
        for was not computed: a term of the loss never goes missing in silence.
        """
        self._check(attention_layers, cls_layers, upto)
        captured = Captured()
        with ExitStack() as stack:
            for layer in attention_layers:
                stack.enter_context(_keeping(self._attentions[layer - 1], captured.attention, layer))
            for layer in cls_layers:
                hook = self._layers[layer - 1].register_forward_hook(_keep_cls(captured.cls, layer))
                stack.callback(hook.remove)
            if upto is not None:
                # Registered after the [CLS] hooks, so it stops the pass when layer `upto` has been kept.
                stack.callback(self._layers[upto - 1].register_forward_hook(_stop).remove)
                stack.enter_context(_returning_none_when_stopped(self.model))
            yield captured
        missing = {*attention_layers} - {*captured.attention} | {*cls_layers} - {*captured.cls}
        if missing:
            raise UserError(
                f"internals of layers {sorted(missing)} were asked for and not computed: the model was not called, or "
                f"its attention was switched to {self.model.config._attn_implementation!r} after record_internals"
            )

    def _check(self, attention_layers: Collection[int], cls_layers: Collection[int], upto: int | None) -> None:
        depth = len(self._layers)
        if upto is not None and not 1 <= upto <= depth:
            raise UserError(f"upto is {upto}; the model has layers 1 to {depth}")
        wrong = sorted(x for x in {*attention_layers, *cls_layers} if not 1 <= x <= (upto or depth))
        if wrong:
            raise UserError(f"layers {wrong} cannot be captured; computed are layers 1 to {upto or depth} of {depth}")
        if self.model.training and self.model.is_activation_checkpointing:
            # The maps would be captured from a pass that is thrown away and computed again in backward.
            raise UserError("gradient checkpointing is on; internals can only be captured with it off")


def record_internals(model: PreTrainedModel) -> Recorder:
    """Switch a model to the attention that can be captured and return its recorder.

    The model computes what it did before; its weights and its saved config are untouched.
    Raises UserError for decoders and for families whose layers are unknown, naming the supported ones.
    """
    recorder = Recorder(model)
    if getattr(model.config, "is_decoder", False):
        raise UserError(f"this {model.config.model_type} is configured as a decoder; internals are read from encoders")
    model.set_attn_implementation(IMPLEMENTATION)
    return recorder


class _Stopped(Exception):
    """Ends a forward pass early; never leaves this module."""


def _stop(module: nn.Module, inputs: Any, output: Any) -> None:
    raise _Stopped


@contextmanager
def _keeping(attention: nn.Module, kept: dict[int, Tensor], layer: int) -> Iterator[None]:
    """Let the attention function leave its log-probabilities in ``kept[layer]``."""

    def keep(log_probs: Tensor) -> None:
        kept[layer] = log_probs

    attention.__dict__[_KEEP] = keep
    try:
        yield
    finally:
        del attention.__dict__[_KEEP]


def _keep_cls(kept: dict[int, Tensor], layer: int) -> Callable[[nn.Module, Any, Tensor], None]:
    def hook(module: nn.Module, inputs: Any, hidden_states: Tensor) -> None:
        kept[layer] = hidden_states[:, 0]

    return hook


@contextmanager
def _returning_none_when_stopped(model: nn.Module) -> Iterator[None]:
    """Make the model's forward return None when a hook stops it, around any wrapper (autocast) it already has."""
    forward, own = model.forward, model.__dict__.get("forward")

    def stoppable(*args: Any, **kwargs: Any) -> Any:
        try:
            return forward(*args, **kwargs)
        except _Stopped:
            return None

    model.__dict__["forward"] = stoppable
    try:
        yield
    finally:
        if own is None:
            del model.__dict__["forward"]
        else:
            model.__dict__["forward"] = own
