"""What reading a network promises, on real tiny encoders: with padding, and in train mode with dropout on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2ForSequenceClassification, PreTrainedModel

from internal_kd.errors import UserError
from internal_kd.learners.capture import network_of
from internal_kd.learners.families import FAMILIES, encoder_layers
from internal_kd.learners.learner import EVERYTHING, LOWEST, Captured, Network, Wanted
from tiny_models import tiny_batch, tiny_classifier

LAYERS, HEADS, WIDTH = 4, 4, 32
LENGTHS = [9, 3, 6]
ALL: Wanted = frozenset(
    (kind, layer) for kind in EVERYTHING for layer in ([0] if kind == "logits" else range(LOWEST[kind], LAYERS + 1))
)
families = pytest.mark.parametrize("family", list(FAMILIES))
two_families = pytest.mark.parametrize("family", ["bert", "roberta"])


def wanted(*pairs: tuple[str, int]) -> Wanted:
    return frozenset(pairs)


def network(family: str = "bert", **settings) -> Network:
    return network_of(tiny_classifier(family, **settings))


def per_head(values: Tensor) -> Tensor:
    """(B, n, H * d) to (B, H, n, d)."""
    return values.unflatten(2, (HEADS, -1)).transpose(1, 2)


# The same numbers as the reference implementation


@families
def test_every_kind_is_what_the_projections_and_transformers_itself_give(family: str) -> None:
    model, batch = tiny_classifier(family), tiny_batch(LENGTHS)
    captured = network_of(model).read(batch, ALL)
    assert captured.keys() == ALL
    model.set_attn_implementation("eager")
    expected = model(**batch, output_attentions=True, output_hidden_states=True)
    assert torch.allclose(captured["logits", 0], expected.logits, atol=1e-5)
    real = batch["attention_mask"].bool()
    for layer in range(LAYERS + 1):
        states = expected.hidden_states[layer]
        assert torch.allclose(captured["hidden", layer][real], states[real], atol=1e-5)
        assert torch.allclose(captured["cls", layer], states[:, 0], atol=1e-5)
    for layer in range(1, LAYERS + 1):
        queries, keys = (per_head(captured[kind, layer]) for kind in ("queries", "keys"))
        scores = queries @ keys.transpose(2, 3) / (WIDTH / HEADS) ** 0.5
        keep = real[:, None, None, :].expand_as(scores)
        lse = scores.masked_fill(~keep, -torch.inf).logsumexp(-1)
        assert captured["values", layer].shape == (3, 9, WIDTH)
        assert torch.allclose(captured["scores", layer][keep], scores[keep], atol=1e-5)
        assert torch.allclose(captured["attention_lse", layer], lse, atol=1e-5)
        assert torch.allclose(captured["attention", layer][keep], (scores - lse[..., None])[keep], atol=1e-5)
        assert torch.allclose(captured["attention", layer].exp(), expected.attentions[layer - 1], atol=1e-6)


def test_values_are_what_attention_averages() -> None:
    model, batch = tiny_classifier(), tiny_batch([7, 7])
    captured = network_of(model).read(batch, wanted(("hidden", 0), ("values", 1), ("attention", 1), ("hidden", 1)))
    context = captured["attention", 1].exp() @ per_head(captured["values", 1])
    first = model.bert.encoder.layer[0]
    attended = first.attention.output(context.transpose(1, 2).flatten(2), captured["hidden", 0])
    assert torch.allclose(first.feed_forward_chunk(attended), captured["hidden", 1], atol=1e-5)


@families
@pytest.mark.parametrize("train", [False, True])
def test_capturing_changes_nothing_that_is_computed(family: str, train: bool) -> None:
    model, batch = tiny_classifier(family).train(train), tiny_batch(LENGTHS)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):  # drawn in another way than eager attention draws it
            module.p = 0.0
    model.set_attn_implementation("eager")
    expected = model(**batch).logits
    reader = network_of(model)
    assert torch.allclose(reader.read(batch)["logits", 0], expected, atol=1e-5)
    assert torch.allclose(reader.read(batch, ALL)["logits", 0], expected, atol=1e-5)


@families
def test_reading_leaves_a_plain_transformers_model(family: str, tmp_path) -> None:
    model, batch = tiny_classifier(family), tiny_batch(LENGTHS)
    expected, attributes, attention = model(**batch).logits, set(model.__dict__), model.config._attn_implementation
    reader = network_of(model)
    reader.read(batch, wanted(("scores", 1)))
    with pytest.raises(UserError):
        reader.read(batch, wanted(("scores", 5)))
    with pytest.raises(IndexError):
        reader.read({"input_ids": torch.tensor([[999]])}, wanted(("scores", 1)))
    assert set(model.__dict__) == attributes and model.config._attn_implementation == attention
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model(**batch).logits.equal(expected)
    model.save_pretrained(tmp_path)
    assert "internal_kd" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))


def test_what_a_batch_carries_besides_the_inputs_is_ignored() -> None:
    reader, batch = network("distilbert"), tiny_batch([4])
    extended = {**batch, "idx": torch.tensor([7]), "labels": torch.tensor([1]), "token_type_ids": batch["input_ids"]}
    assert reader.read(extended)["logits", 0].equal(reader.read(batch)["logits", 0])


# Before dropout, precision, padding


def test_maps_are_before_dropout_in_train_mode() -> None:
    reader, batch = network(attention_dropout=0.5), tiny_batch(LENGTHS)
    reader.module.train()
    mask = batch["attention_mask"]
    for layer in range(1, LAYERS + 1):
        log_probs = reader.read(batch, wanted(("attention", layer)))["attention", layer]
        sums = (log_probs.exp() * mask[:, None, None, :]).sum(-1)
        assert torch.allclose(sums, torch.ones_like(sums), atol=1e-5)
        assert log_probs.dtype == torch.float32 and log_probs.isfinite().all()


@two_families
def test_a_copy_in_train_mode_has_the_same_maps(family: str) -> None:
    teacher, student = (network(family, hidden_dropout=0.0, attention_dropout=0.5) for _ in range(2))
    student.module.train()
    batch, first = tiny_batch(LENGTHS), wanted(("attention", 1), ("queries", 1))
    taught, learnt = teacher.read(batch, first), student.read(batch, first)
    assert all(learnt[key].equal(taught[key]) for key in first)


@families
def test_padding_changes_nothing_at_real_tokens(family: str) -> None:
    reader = network(family)
    short, long = (reader.read(tiny_batch(LENGTHS, length=length), ALL) for length in (9, 40))
    real = tiny_batch(LENGTHS)["attention_mask"].bool()
    pairs = (real[:, :, None] & real[:, None, :])[:, None].expand(-1, HEADS, -1, -1)
    for kind, layer in ALL:
        few, many = short[kind, layer], long[kind, layer]
        if kind in ("attention", "scores"):
            few, many = few[pairs], many[:, :, :9, :9][pairs]
        elif kind == "attention_lse":
            few, many = few.transpose(1, 2)[real], many.transpose(1, 2)[:, :9][real]
        elif kind not in ("logits", "cls"):
            few, many = few[real], many[:, :9][real]
        assert torch.allclose(few, many, rtol=1e-4, atol=1e-5), (kind, layer)


@two_families
def test_bf16_autocast_gives_finite_fp32_maps_near_the_exact_ones(family: str) -> None:
    reader, batch = network(family, spread=0.1), tiny_batch(LENGTHS)
    exact = reader.read(batch, ALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = reader.read(batch, ALL)
    sum(values.float().clamp(-50, 50).sum() for values in rough.values()).backward()
    assert all(values.isfinite().all() for values in rough.values())
    for layer in range(1, LAYERS + 1):
        assert rough["attention", layer].dtype == rough["attention_lse", layer].dtype == torch.float32
        assert torch.allclose(rough["attention", layer].exp(), exact["attention", layer].exp(), atol=0.03)
    assert all(w.grad.isfinite().all() for w in reader.module.parameters() if w.grad is not None)


@two_families
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_example_of_nothing_but_padding_gives_numbers(family: str, dtype: torch.dtype) -> None:
    reader = network_of(tiny_classifier(family).to(dtype))
    captured = reader.read(tiny_batch([4, 0]), ALL)
    assert all(values.isfinite().all() for values in captured.values())
    sum(values.float().clamp(-50, 50).sum() for values in captured.values()).backward()
    assert all(w.grad.isfinite().all() for w in reader.module.parameters() if w.grad is not None)


def test_no_grad_and_missing_masks_are_served() -> None:
    reader, batch = network(), tiny_batch([5, 5])
    with torch.no_grad():
        captured = reader.read(batch, ALL)
        unmasked = reader.read({"input_ids": batch["input_ids"]}, ALL)
    assert not any(values.requires_grad for values in captured.values())
    assert all(captured[key].equal(unmasked[key]) for key in ALL)


# Stopping early


@contextmanager
def counted_calls(modules: list[torch.nn.Module]) -> Iterator[list[int]]:
    """The indices of the modules whose forward pass began."""
    calls: list[int] = []
    hooks = [m.register_forward_pre_hook(lambda *_, i=i: calls.append(i)) for i, m in enumerate(modules)]
    yield calls
    for hook in hooks:
        hook.remove()


def gradients_of(reader: Network, captured: Captured, keys: Wanted) -> dict[str, Tensor]:
    reader.module.zero_grad()
    sum((captured[key].float().clamp(-50, 50) ** 2).mean() for key in sorted(keys)).backward()
    return {n: w.grad.clone() for n, w in reader.module.named_parameters() if w.grad is not None}


STOPS = [
    wanted(("attention", 1)),
    wanted(("hidden", 1), ("attention", 1), ("values", 1)),
    wanted(("queries", 3)),
    wanted(("cls", 3), ("attention", 3), ("attention_lse", 2), ("scores", 1)),
    wanted(("hidden", 0), ("keys", 2)),
]


@families
@pytest.mark.parametrize("keys", STOPS)
def test_without_logits_nothing_above_is_computed_and_gradients_are_the_same(family: str, keys: Wanted) -> None:
    reader, batch = network(family), tiny_batch(LENGTHS)
    reader.module.train()
    results = []
    for asked in (keys | {("logits", 0)}, keys):
        torch.manual_seed(5)
        with counted_calls(list(encoder_layers(reader.module))) as layers:
            captured = reader.read(batch, asked)
        assert captured.keys() == asked
        assert max(layers) + 1 == (LAYERS if asked != keys else max(layer for _, layer in keys))
        results.append((captured, gradients_of(reader, captured, keys)))
    (whole, expected), (truncated, gradients) = results
    assert all(truncated[key].equal(whole[key]) for key in keys)
    assert gradients.keys() == expected.keys() and expected
    assert all(gradient.equal(expected[name]) for name, gradient in gradients.items())


@families
def test_embeddings_alone_need_no_layer(family: str) -> None:
    reader = network(family)
    layers = list(encoder_layers(reader.module))
    with counted_calls([layers[0].get_submodule(FAMILIES[family].query)]) as calls:
        assert reader.read(tiny_batch([4]), wanted(("hidden", 0)))["hidden", 0].shape == (1, 4, WIDTH)
    assert not calls


def test_truncation_runs_inside_a_wrapper_that_the_model_already_has() -> None:
    reader, batch = network(), tiny_batch(LENGTHS)
    plain = reader.module.forward

    def under_autocast(**inputs: Tensor) -> object:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return plain(**inputs)

    reader.module.forward = under_autocast  # what accelerate does with mixed precision
    with torch.no_grad():
        truncated = reader.read(batch, wanted(("attention", 2)))
        whole = reader.read(batch, wanted(("attention", 2), ("logits", 0)))
    assert reader.module.forward is under_autocast
    assert truncated["attention", 2].equal(whole["attention", 2])


# Nothing goes missing in silence


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (wanted(), "nothing was asked"),
        (wanted(("attention", 5)), "attention of layer 5"),
        (wanted(("attention", 0)), "attention of layer 0"),
        (wanted(("hidden", -1)), "hidden of layer -1"),
        (wanted(("logits", 1)), "logits of layer 1"),
        (wanted(("attentions", 1)), "'attentions'"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(asked: Wanted, named: str) -> None:
    with pytest.raises(UserError, match=named):
        network().read(tiny_batch([3]), asked)


def test_what_the_pass_did_not_compute_raises() -> None:
    reader = network()
    reader.module.bert.encoder.layer = reader.module.bert.encoder.layer[:2]  # layers that were dropped
    with pytest.raises(UserError, match="hidden of layer 3 was not computed"):
        reader.read(tiny_batch([3]), wanted(("hidden", 3), ("logits", 0)))


def test_gradient_checkpointing_is_refused_with_internals_only() -> None:
    reader = network()
    reader.module.train().activation_checkpointing_enable()
    assert reader.read(tiny_batch([3])).keys() == {("logits", 0)}
    with pytest.raises(UserError, match="gradient checkpointing"):
        reader.read(tiny_batch([3]), wanted(("attention", 1)))


def decoders() -> list[PreTrainedModel]:
    bert = tiny_classifier()
    bert.config.is_decoder = True
    gpt = GPT2Config(vocab_size=50, n_positions=20, n_embd=8, n_layer=2, n_head=2, pad_token_id=1, num_labels=2)
    return [bert, GPT2ForSequenceClassification(gpt).eval()]


@pytest.mark.parametrize("model", decoders(), ids=lambda model: model.config.model_type)
def test_decoders_and_unknown_families_hand_out_logits_alone(model: PreTrainedModel) -> None:
    reader, batch = network_of(model), tiny_batch([4, 2])
    assert reader.hands_out == {"logits"}
    assert reader.read(batch)["logits", 0].equal(model(**batch).logits)
    with pytest.raises(UserError, match="hands out logits"):
        reader.read(batch, wanted(("hidden", 1)))


# Sizes, freezing


def counted(family: str) -> tuple[int, int]:
    counts = network(family).count_parameters()
    return counts.encoder, counts.total


def test_the_papers_parameter_counts() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    for layers, expected in ((12, (85_645_056, 109_482_240)), (6, (43_117_824, 66_955_008))):
        with torch.device("meta"):
            model = BertForSequenceClassification(BertConfig(num_hidden_layers=layers))
        assert network_of(model).count_parameters() == expected


def test_no_part_of_the_head_counts() -> None:
    layer = 4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32
    assert counted("roberta")[0] == counted("distilbert")[0] == counted("electra")[0] == LAYERS * layer
    assert counted("bert")[0] == LAYERS * layer + 32 * 32 + 32


def test_a_frozen_network_stays_in_eval_mode_and_gets_no_gradient() -> None:
    reader, batch = network().freeze(), tiny_batch(LENGTHS)
    torch.nn.ModuleList([reader.module]).train()
    reader.module.train()
    assert not any(module.training for module in reader.module.modules())
    captured = reader.read(batch, ALL)
    assert not any(values.requires_grad for values in captured.values())


def test_a_copy_of_a_frozen_model_is_frozen_by_itself() -> None:
    copy = deepcopy(network().freeze().module)
    assert copy.train() is copy and not copy.training


def test_sizes_are_those_of_the_config() -> None:
    for family in FAMILIES:
        reader = network(family)
        assert (reader.layers, reader.width, reader.heads) == (LAYERS, WIDTH, HEADS)


def test_what_a_frozen_network_answers_does_not_depend_on_what_else_is_asked():
    teacher, batch = network(hidden_dropout=0.0).freeze(), tiny_batch(LENGTHS)
    alone = teacher.read(batch)["logits", 0]
    beside = teacher.read(batch, wanted(("logits", 0), ("attention", 2), ("hidden", 3)))["logits", 0]
    assert torch.equal(alone, beside)
    assert torch.equal(teacher.read(batch)["logits", 0], alone)
