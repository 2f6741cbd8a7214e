"""Training some rows of the word embeddings equals training the table, for the words that training shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel, RobertaConfig
from transformers import RobertaForSequenceClassification as Roberta

from internal_kd.models.vocabulary import UsedRows, training_used_rows

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
    with training_used_rows(some, USED):
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
    with training_used_rows(model, USED):
        steps(model, 2)
        model.eval()
        rows = model.get_input_embeddings()
        assert isinstance(rows, UsedRows)
        seen = rows(torch.tensor([5, 33]))
        assert torch.equal(seen[0], rows.weight[1]) and torch.isfinite(seen).all()
    assert torch.equal(model.get_input_embeddings().weight[[5, 33]], seen)


def test_a_word_outside_is_an_error_while_training_and_never_another_words_embedding() -> None:
    model = model_of("bert").train()
    with training_used_rows(model, USED), pytest.raises(IndexError):
        model(input_ids=torch.tensor([[5, 33]]))


def test_the_table_is_back_after_an_error() -> None:
    model = model_of("bert")
    with pytest.raises(ZeroDivisionError), training_used_rows(model, USED):
        raise ZeroDivisionError
    assert isinstance(model.get_input_embeddings(), nn.Embedding)
