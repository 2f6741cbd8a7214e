"""What capturing internals promises, on real tiny encoders: with padding, and in train mode with dropout on."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, ViTConfig, ViTForImageClassification

from internal_kd.distillation.losses import attention_kl, cls_cosine
from internal_kd.errors import UserError
from internal_kd.models.attention import Captured, Recorder, record_internals
from internal_kd.models.families import FAMILIES, encoder_layers
from tiny_models import tiny_batch, tiny_classifier

ALL = range(1, 5)
LENGTHS = [9, 3, 6]
families = pytest.mark.parametrize("family", list(FAMILIES))
two_families = pytest.mark.parametrize("family", ["bert", "roberta"])


def captured_pass(model: PreTrainedModel, batch: dict[str, Tensor], seed: int = 0) -> Captured:
    torch.manual_seed(seed)
    with record_internals(model).capture(attention_layers=ALL, cls_layers=ALL) as captured:
        model(**batch)
    return captured


def last_hidden_state(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    return model.base_model(**batch).last_hidden_state


# The same numbers as the reference implementation


@families
@pytest.mark.parametrize("train", [False, True])
def test_a_captured_pass_computes_what_eager_attention_computes(family: str, train: bool) -> None:
    model, batch = tiny_classifier(family).train(train), tiny_batch(LENGTHS)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):  # drawn in another way than eager attention draws it
            module.p = 0.0
    model.set_attn_implementation("eager")
    expected = last_hidden_state(model, batch)
    with record_internals(model).capture(attention_layers=ALL):
        actual = last_hidden_state(model, batch)
    real = batch["attention_mask"].bool()
    assert torch.allclose(actual[real], expected[real], atol=1e-5)


@families
def test_captured_probabilities_are_eagers_weights_without_dropout(family: str) -> None:
    model, batch = tiny_classifier(family), tiny_batch(LENGTHS)
    captured = captured_pass(model, batch)
    model.set_attn_implementation("eager")
    output = model(**batch, output_attentions=True, output_hidden_states=True)
    for layer in ALL:
        assert torch.allclose(captured.attention[layer].exp(), output.attentions[layer - 1], atol=1e-6)
        assert torch.allclose(captured.cls[layer], output.hidden_states[layer][:, 0], atol=1e-5)


@families
def test_layers_that_are_not_captured_give_the_same_output_by_fused_attention(family: str) -> None:
    model, batch = tiny_classifier(family), tiny_batch(LENGTHS)
    model.set_attn_implementation("eager")
    expected = model(**batch).logits
    recorder = record_internals(model)
    assert torch.allclose(model(**batch).logits, expected, atol=1e-5)
    with recorder.capture(attention_layers=[2]) as captured:
        assert torch.allclose(model(**batch).logits, expected, atol=1e-5)
    assert set(captured.attention) == {2} and not captured.cls


def test_captured_maps_are_before_dropout_in_train_mode() -> None:
    model, batch = tiny_classifier(attention_dropout=0.5).train(), tiny_batch(LENGTHS)
    mask = batch["attention_mask"]
    for log_probs in captured_pass(model, batch).attention.values():
        sums = (log_probs.exp() * mask[:, None, None, :]).sum(-1)
        assert torch.allclose(sums, torch.ones_like(sums), atol=1e-5)
        assert log_probs.dtype == torch.float32 and log_probs.isfinite().all()


# Stopping early


@contextmanager
def counted_calls(modules: list[torch.nn.Module]) -> Iterator[list[int]]:
    calls: list[int] = []
    hooks = [m.register_forward_hook(lambda *_, i=i: calls.append(i)) for i, m in enumerate(modules)]
    yield calls
    for hook in hooks:
        hook.remove()


@families
@pytest.mark.parametrize("upto", [1, 3])
def test_a_truncated_pass_computes_nothing_above_and_has_the_gradients_of_the_whole(family: str, upto: int) -> None:
    teacher, student, batch = tiny_classifier(family, seed=1), tiny_classifier(family, seed=2), tiny_batch(LENGTHS)
    taught = captured_pass(teacher, batch)
    student.train()
    recorder = record_internals(student)
    gradients = []
    for stop in (None, upto):
        student.zero_grad()
        torch.manual_seed(5)
        with (
            counted_calls(list(encoder_layers(student))) as layers,
            counted_calls(list(student.children())) as parts,
            recorder.capture([upto], [upto], upto=stop) as learnt,
        ):
            output = student(**batch)
        assert max(layers) == (3 if stop is None else upto - 1)
        assert bool(parts) == (stop is None)  # only a whole pass reaches the end of encoder, pooler and head
        assert (output is None) == (stop is not None)
        loss = attention_kl(learnt.attention[upto], taught.attention[upto], batch["attention_mask"])
        (loss + cls_cosine(learnt.cls[upto], taught.cls[upto])).backward()
        gradients.append({n: w.grad.clone() for n, w in student.named_parameters() if w.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and gradients[0]
    assert all(gradient.equal(gradients[1][name]) for name, gradient in gradients[0].items())


def test_after_a_truncated_pass_the_model_is_what_it_was() -> None:
    model, batch = tiny_classifier(), tiny_batch(LENGTHS)
    recorder = record_internals(model)
    expected, attributes = model(**batch).logits, set(model.__dict__)
    with recorder.capture([1], upto=1):
        assert model(**batch) is None
    with pytest.raises(ZeroDivisionError), recorder.capture([1], upto=1):
        raise ZeroDivisionError
    assert set(model.__dict__) == attributes
    assert model(**batch).logits.equal(expected)


def test_truncation_runs_inside_a_wrapper_that_the_model_already_has() -> None:
    model, batch = tiny_classifier(), tiny_batch(LENGTHS)
    recorder, plain = record_internals(model), model.forward

    def under_autocast(**inputs: Tensor) -> object:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return plain(**inputs)

    model.forward = under_autocast  # what accelerate does with mixed precision
    with torch.no_grad(), recorder.capture([2], upto=2) as truncated:
        model(**batch)
    with torch.no_grad(), recorder.capture([2]) as whole:
        model(**batch)
    assert model.forward is under_autocast
    assert truncated.attention[2].equal(whole.attention[2])


def test_no_grad_and_missing_masks_are_served() -> None:
    model, batch = tiny_classifier(), tiny_batch([5, 5])
    with torch.no_grad():
        captured = captured_pass(model, batch)
        unmasked = captured_pass(model, {"input_ids": batch["input_ids"]})
    assert not captured.attention[1].requires_grad
    assert all(captured.attention[x].equal(unmasked.attention[x]) for x in ALL)


# Nothing goes missing in silence


def ask(model: PreTrainedModel, act: Callable[[PreTrainedModel, Recorder], None]) -> None:
    act(model, record_internals(model))


def switched_back(model: PreTrainedModel, recorder: Recorder) -> None:
    model.set_attn_implementation("sdpa")
    with recorder.capture([2]):
        model(**tiny_batch([3]))


def never_called(model: PreTrainedModel, recorder: Recorder) -> None:
    with recorder.capture(cls_layers=[2]):
        pass


def above_the_top(model: PreTrainedModel, recorder: Recorder) -> None:
    with recorder.capture([5]):
        model(**tiny_batch([3]))


def above_the_stop(model: PreTrainedModel, recorder: Recorder) -> None:
    with recorder.capture([2], [3], upto=2):
        model(**tiny_batch([3]))


def layer_zero(model: PreTrainedModel, recorder: Recorder) -> None:
    with recorder.capture([0]):
        model(**tiny_batch([3]))


def stop_above_the_top(model: PreTrainedModel, recorder: Recorder) -> None:
    with recorder.capture([1], upto=5):
        model(**tiny_batch([3]))


def checkpointed(model: PreTrainedModel, recorder: Recorder) -> None:
    model.train().activation_checkpointing_enable()
    with recorder.capture([1]):
        model(**tiny_batch([3]))


@pytest.mark.parametrize(
    ("act", "named"),
    [
        (switched_back, "layers [2] were asked for and not computed"),
        (never_called, "layers [2] were asked for and not computed"),
        (above_the_top, "layers [5]"),
        (above_the_stop, "layers [3]"),
        (layer_zero, "layers [0]"),
        (stop_above_the_top, "upto is 5"),
        (checkpointed, "gradient checkpointing"),
    ],
)
def test_what_was_asked_for_and_cannot_come_raises(act, named: str) -> None:
    with pytest.raises(UserError) as error:
        ask(tiny_classifier(), act)
    assert named in str(error.value)


def test_an_unknown_family_is_named_with_the_supported_ones() -> None:
    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=16)
    with pytest.raises(UserError, match=r"'vit' are not supported; supported are bert, .*roberta"):
        record_internals(ViTForImageClassification(config))


def test_a_decoder_is_refused() -> None:
    model = tiny_classifier()
    model.config.is_decoder = True
    with pytest.raises(UserError, match="decoder"):
        record_internals(model)


def test_the_saved_config_does_not_name_our_attention(tmp_path) -> None:
    model = tiny_classifier()
    record_internals(model)
    model.save_pretrained(tmp_path)
    assert "internal_kd" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))
