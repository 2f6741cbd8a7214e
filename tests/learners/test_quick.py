"""Dropout from few random numbers is dropout; training some words' rows equals training the table, for those words."""

from __future__ import annotations

import platform

import numpy as np
import psutil
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel, RobertaConfig
from transformers import RobertaForSequenceClassification as Roberta

from internal_kd.learners.quick import Dropout, UsedRows, dropout, freed_memory_kept, quick_on_cpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_a_share_of_p_is_dropped_and_the_mean_is_kept(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    out = dropout(torch.ones(400, 1001, dtype=dtype), p, training=True).float()
    dropped = (out == 0).float()
    assert dropped.mean().item() == pytest.approx(p, abs=0.003)
    assert out.mean().item() == pytest.approx(1.0, abs=0.008)
    for axis in (0, 1):  # no row and no column is special
        assert dropped.mean(axis).std().item() == pytest.approx((p * (1 - p) / dropped.shape[axis]) ** 0.5, rel=0.15)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(2)
    dropped = (dropout(torch.ones(1_000_000), 0.5, training=True) == 0).float()
    for distance in (1, 2, 3, 4, 8):
        both = (dropped[:-distance] * dropped[distance:]).mean().item()
        assert both == pytest.approx(0.25, abs=0.002)


def test_the_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(3)
    values = torch.randn(50, 7, requires_grad=True)
    out = dropout(values, 0.3, training=True)
    out.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad == 0, out.detach() == 0)
    assert torch.allclose(values.grad * values.detach(), out.detach())


def test_it_follows_torchs_random_state_and_nothing_else() -> None:
    values = torch.ones(1000)
    torch.manual_seed(4)
    state = torch.get_rng_state()
    first, second = dropout(values, 0.1, training=True), dropout(values, 0.1, training=True)
    torch.set_rng_state(state)
    assert torch.equal(dropout(values, 0.1, training=True), first)
    assert not torch.equal(first, second)


def test_without_training_or_probability_nothing_happens() -> None:
    values = torch.randn(10)
    assert dropout(values, 0.1, training=False) is values
    assert dropout(values, 0.0, training=True) is values
    assert not dropout(values, 1.0, training=True).any()


def test_a_models_dropout_is_replaced_inside_the_block_and_its_weights_stay() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Dropout(0.25), nn.Linear(4, 2))).eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    own = model[1][0]
    with quick_on_cpu(model):
        replaced = model[1][0]
        assert isinstance(replaced, Dropout) and replaced.p == 0.25 and not replaced.training
        model.train()
        assert replaced.training
    assert model[1][0] is own and own.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
IDS = torch.tensor([[5, 9, 7, 1], [5, 30, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
USED = np.array([1, 5, 7, 9, 30])


def model_of(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if family == "bert":
        return BertForSequenceClassification(BertConfig(vocab_size=40, pad_token_id=1, **SHAPE))
    return Roberta(RobertaConfig(vocab_size=40, max_position_embeddings=20, pad_token_id=1, **SHAPE))


def steps(model: PreTrainedModel, count: int) -> None:
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model.config.attention_probs_dropout_prob = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(count):
        model(input_ids=IDS, attention_mask=MASK, labels=torch.tensor([0, 1])).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_used_words_learn_what_they_would_and_others_stay(family: str) -> None:
    whole, some = model_of(family), model_of(family)
    before = some.get_input_embeddings().weight.detach().clone()
    steps(whole, 3)
    with quick_on_cpu(some, USED):
        steps(some, 3)
    table = some.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    for (name, weight), other in zip(some.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.allclose(weight, other, atol=1e-5), name
    unused = np.setdiff1d(np.arange(40), USED)
    assert torch.equal(table.weight[unused], before[unused])
    assert not torch.equal(table.weight[[5, 7, 9, 30]], before[[5, 7, 9, 30]])


def test_eval_mode_sees_trained_rows_and_words_never_trained() -> None:
    model = model_of("bert")
    with quick_on_cpu(model, USED):
        steps(model, 2)
        model.eval()
        rows = model.get_input_embeddings()
        assert isinstance(rows, UsedRows)
        seen = rows(torch.tensor([5, 33]))
        assert torch.equal(seen[0], rows.weight[1]) and torch.isfinite(seen).all()
    assert torch.equal(model.get_input_embeddings().weight[[5, 33]], seen)


def test_a_word_outside_is_an_error_while_training_and_never_another_words_embedding() -> None:
    model = model_of("bert").train()
    with quick_on_cpu(model, USED), pytest.raises(IndexError):
        model(input_ids=torch.tensor([[5, 33]]))


def test_the_table_is_back_after_an_error() -> None:
    model = model_of("bert")
    with pytest.raises(ZeroDivisionError), quick_on_cpu(model, USED):
        raise ZeroDivisionError
    assert isinstance(model.get_input_embeddings(), nn.Embedding)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc than glibc's")
def test_freed_memory_stays_inside_the_block_and_goes_back_after_it() -> None:
    memory = psutil.Process().memory_info
    with freed_memory_kept(torch.device("cpu")):
        before, large = memory().rss, 512 << 20  # more than other tests leave free
        torch.ones(large // 4)  # of four bytes each, and free at once
        assert memory().rss - before > 0.5 * large
    assert memory().rss - before < 0.5 * large
