"""What a model's folder states, and what is refused before anything is allocated."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM, BertModel

from internal_kd.errors import UserError
from internal_kd.learners.configs import check_config, own_max_length, positions_of, shape_of
from internal_kd.learners.families import FAMILIES
from internal_kd.learners.learner import EVERYTHING, Shape
from internal_kd.learners.weights import save_classifier
from tiny_models import tiny_classifier, tiny_config


def changed(folder: Path, **values: object) -> Path:
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_classifier(tiny_classifier(labels=3), tmp_path)
    return tmp_path


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_shape_of_a_folder_is_read_from_its_config(family: str, tmp_path: Path) -> None:
    save_classifier(tiny_classifier(family), tmp_path)
    assert check_config(tmp_path) == shape_of(tmp_path) == Shape(4, 32, 4, 64, family, EVERYTHING)


@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM])
def test_a_pre_trained_encoder_passes(kind: type, tmp_path: Path) -> None:
    kind(tiny_config()).half().save_pretrained(tmp_path)
    assert check_config(tmp_path).layers == 4


def test_of_an_unknown_family_logits_alone_can_be_read(folder: Path) -> None:
    assert shape_of(changed(folder, model_type="deberta-v2")).hands_out == {"logits"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"model_type": None}, "model_type"),
        ({"model_type": "berts"}, "'bert'"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "auto_map"),
        ({"_attn_implementation": "someone/kernels"}, "someone/kernels"),
        ({"is_decoder": True}, "is_decoder"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config"),
        ({"hidden_size": 1_000_000_000}, "hidden_size"),
        ({"hidden_size": -384}, "hidden_size"),
        ({"hidden_size": 30}, "4 heads do not divide"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"num_hidden_layers": "4"}, "num_hidden_layers"),
        ({"max_position_embeddings": 10**12}, "max_position_embeddings"),
        ({"vocab_size": True}, "vocab_size"),
        ({"hidden_act": "x"}, "config.json"),
        ({"pad_token_id": 10**9}, "config.json"),
        ({"intermediate_size": 50_000}, "intermediate.dense"),
        ({"vocab_size": 4_000_000}, "word_embeddings"),
    ],
)
def test_a_config_that_cannot_be_trusted_is_refused_in_one_line(folder: Path, values: dict, named: str) -> None:
    with pytest.raises(UserError) as error:
        check_config(changed(folder, **values))
    assert named in str(error.value) and "\n" not in str(error.value)


def test_truncated_weights_are_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        check_config(folder)


def test_weights_named_without_the_base_models_prefix_are_compared_too(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({n.removeprefix("bert."): w for n, w in weights.items()}, folder / "model.safetensors")
    check_config(folder)
    with pytest.raises(UserError, match="intermediate"):
        check_config(changed(folder, intermediate_size=63))


@pytest.mark.parametrize(("stated", "expected"), [(48, 48), (512, 70), (1e30, 70), (None, 70)])
def test_the_longest_input_is_the_tokenizers_or_what_positions_allow(folder: Path, stated, expected: int) -> None:
    if stated is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": stated}))
    assert own_max_length(folder) == expected


def test_positions_after_the_padding_id_are_never_used() -> None:
    assert positions_of({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}) == 512
    assert positions_of({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}) == 512
    assert positions_of({"model_type": "bert"}) == 512
