"""Loading and saving classifiers."""

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM, PreTrainedModel

from internal_kd.errors import UserError
from internal_kd.learners.families import FAMILIES
from internal_kd.learners.weights import classifier_on_meta, load_classifier, save_classifier, stored_outputs
from tiny_models import tiny_batch, tiny_classifier, tiny_config


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A pre-trained encoder as it is found in public: masked-LM weights, fp16, no classification head."""
    torch.manual_seed(0)
    BertForMaskedLM(tiny_config()).half().save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.mark.parametrize("family", list(FAMILIES))
def test_what_is_saved_is_what_is_loaded(family: str, tmp_path: Path) -> None:
    model, batch = tiny_classifier(family, labels=3), tiny_batch([5, 3])
    save_classifier(model, tmp_path)
    loaded = load_classifier(tmp_path, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert loaded(**batch).logits.equal(model(**batch).logits)
    assert not loaded.training


def test_a_half_precision_encoder_is_loaded_in_fp32_with_a_head_drawn_from_the_seed(encoder: Path) -> None:
    state = torch.get_rng_state()
    first, same, other = (load_classifier(encoder, 3, seed=seed) for seed in (1, 1, 2))
    assert torch.get_rng_state().equal(state)
    assert {weight.dtype for weight in first.parameters()} == {torch.float32}
    assert first.classifier.weight.equal(same.classifier.weight)
    assert not first.classifier.weight.equal(other.classifier.weight)
    stored = load_file(encoder / "model.safetensors")["bert.encoder.layer.3.output.dense.weight"]
    assert first.bert.encoder.layer[3].output.dense.weight.equal(stored.float())
    assert first.config.problem_type == "single_label_classification"


def test_one_output_is_regression(encoder: Path) -> None:
    assert load_classifier(encoder, 1).config.problem_type == "regression"


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_weights_are_as_readable_as_their_neighbours(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        save_classifier(tiny_classifier(), tmp_path)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_a_model_on_the_meta_device_has_the_folders_class_and_sizes_without_its_weights(tmp_path: Path) -> None:
    save_classifier(tiny_classifier(labels=3), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model = classifier_on_meta(tmp_path)
    assert stored_outputs(tmp_path) == model.config.num_labels == 3
    assert {weight.device.type for weight in model.parameters()} == {"meta"}


def test_loading_prints_nothing(encoder: Path, capfd, caplog) -> None:
    with caplog.at_level(logging.INFO):
        load_classifier(encoder, 2)
    captured = capfd.readouterr()
    assert captured.out == captured.err == caplog.text == ""


def head_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights outside the encoder."""
    base = f"{model.base_model_prefix}."
    return {name: weight for name, weight in model.state_dict().items() if not name.startswith(base)}


def break_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def cut_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "be')


def change_family(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"never unpickled")


def cut_weights(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def rename_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({f"elsewhere.{n}": w for n, w in weights.items()}, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (shutil.rmtree, "config.json does not exist"),
        (break_config, "config.json does not exist"),
        (cut_config, "config.json"),
        (change_family, "'gpt2'"),
        (remove_weights, "model.safetensors does not exist"),
        (cut_weights, "cannot be read"),
        (rename_weights, "weights of its encoder"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(encoder: Path, damage, named: str) -> None:
    damage(encoder)
    with pytest.raises(UserError) as error:
        load_classifier(encoder, 2)
    assert (named in str(error.value) and str(encoder) in str(error.value)) or damage is change_family
    assert "\n" not in str(error.value)


def test_a_head_of_another_size_is_refused(tmp_path: Path) -> None:
    save_classifier(tiny_classifier(labels=3), tmp_path)
    with pytest.raises(UserError, match=r"classifier.* for 2 labels"):
        load_classifier(tmp_path, 2)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("labels", [1, 2, 3])
def test_a_head_for_another_task_is_left_aside_and_drawn_from_the_seed(
    family: str, labels: int, tmp_path: Path
) -> None:
    tuned = tiny_classifier(family, labels=3)
    save_classifier(tuned, tmp_path)
    state = torch.get_rng_state()
    first, same, other = (load_classifier(tmp_path, labels, seed=seed, new_head=True) for seed in (1, 1, 2))
    assert torch.get_rng_state().equal(state)
    heads = [head_of(model) for model in (first, same, other, tuned)]
    assert heads[0].keys() == heads[3].keys()
    assert all(heads[0][name].equal(heads[1][name]) for name in heads[0])
    drawn = [name for name in heads[0] if name.endswith("weight")]
    assert drawn and not any(heads[0][name].equal(heads[2][name]) for name in drawn)
    assert labels != 3 or not any(heads[0][name].equal(heads[3][name]) for name in drawn)
    assert first(**tiny_batch([5, 3])).logits.shape == (2, labels)
    kept = tuned.base_model.state_dict()
    assert all(weight.equal(kept[name]) for name, weight in first.base_model.state_dict().items())


def test_an_encoder_without_a_head_is_the_same_either_way(encoder: Path) -> None:
    either = [load_classifier(encoder, 3, seed=1, new_head=new).state_dict() for new in (False, True)]
    assert all(either[0][name].equal(either[1][name]) for name in either[0])


def test_weights_of_another_shape_are_refused_where_only_the_head_is_new(tmp_path: Path) -> None:
    save_classifier(tiny_classifier(labels=3), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 7}))
    with pytest.raises(UserError, match=r"bert\.encoder.* is stored with shape"):
        load_classifier(tmp_path, 2, new_head=True)
