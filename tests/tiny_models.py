"""Tiny random encoders with a classification head, of every supported family: real models, built in milliseconds."""

from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    CamembertConfig,
    DistilBertConfig,
    ElectraConfig,
    PreTrainedModel,
    RobertaConfig,
    XLMRobertaConfig,
)

VOCABULARY, PAD = 50, 1


def tiny_config(
    family: str = "bert",
    *,
    layers: int = 4,
    width: int = 32,
    heads: int = 4,
    labels: int = 2,
    hidden_dropout: float = 0.1,
    attention_dropout: float = 0.1,
) -> Any:
    common = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "max_position_embeddings": 70, "num_labels": labels}
    if family == "distilbert":
        return DistilBertConfig(
            **common,
            n_layers=layers,
            dim=width,
            hidden_dim=2 * width,
            n_heads=heads,
            dropout=hidden_dropout,
            attention_dropout=attention_dropout,
            seq_classif_dropout=hidden_dropout,
        )
    classes = {
        "bert": BertConfig,
        "roberta": RobertaConfig,
        "electra": ElectraConfig,
        "xlm-roberta": XLMRobertaConfig,
        "camembert": CamembertConfig,
    }
    extra = {"embedding_size": width // 2} if family == "electra" else {}
    return classes[family](
        **common,
        **extra,
        num_hidden_layers=layers,
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=heads,
        hidden_dropout_prob=hidden_dropout,
        attention_probs_dropout_prob=attention_dropout,
    )


def tiny_classifier(family: str = "bert", *, seed: int = 0, spread: float = 0.3, **settings: Any) -> PreTrainedModel:
    """A random classifier in eval mode; ``spread`` widens the weights so that attention is far from uniform."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(tiny_config(family, **settings))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embeddings" not in name:
                weight.normal_(0.0, spread)
            elif name.endswith("bias"):
                weight.normal_(0.0, 0.1)
    return model.eval()


def tiny_batch(lengths: list[int], *, length: int | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Random token ids, right-padded to ``length`` (default: the longest), with their attention mask.

    The ids of an example do not depend on ``length``, so the same seed gives the same batch with more padding.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((len(lengths), length or max(lengths)), PAD)
    for row, real in enumerate(lengths):
        ids[row, :real] = torch.randint(2, VOCABULARY, (real,), generator=generator)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}
