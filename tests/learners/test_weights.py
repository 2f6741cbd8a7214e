"""Loading, saving, counting and freezing classifiers."""

import json
import logging
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForSequenceClassification, BertConfig, BertForMaskedLM, PreTrainedModel

from internal_kd.distillation.losses import soft_label_loss
from internal_kd.errors import UserError
from internal_kd.models.classifiers import count_parameters, freeze_teacher, load_classifier, save_classifier
from internal_kd.models.families import FAMILIES
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


def test_one_label_is_regression_and_depth_keeps_the_lowest_layers(encoder: Path) -> None:
    whole, shallow = load_classifier(encoder, 1), load_classifier(encoder, 1, depth=2)
    assert shallow.config.problem_type == "regression" and shallow.config.num_hidden_layers == 2
    assert len(shallow.bert.encoder.layer) == 2
    for ours, theirs in zip(
        shallow.bert.encoder.layer.parameters(), whole.bert.encoder.layer.parameters(), strict=False
    ):
        assert ours.equal(theirs)


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
        (cut_config, "config.json describes no encoder"),
        (change_family, "'gpt2' are not supported"),
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


def test_a_head_of_another_size_and_too_great_a_depth_are_refused(tmp_path: Path) -> None:
    save_classifier(tiny_classifier(labels=3), tmp_path)
    with pytest.raises(UserError, match=r"classifier.* for 2 labels"):
        load_classifier(tmp_path, 2)
    with pytest.raises(UserError, match="5 layers cannot be taken"):
        load_classifier(tmp_path, 3, depth=5)


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


@pytest.mark.parametrize(("layers", "encoder", "total"), [(12, 85_645_056, 109_482_240), (6, 43_117_824, 66_955_008)])
def test_bert_base_has_the_papers_parameter_counts(layers: int, encoder: int, total: int) -> None:
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(BertConfig(num_hidden_layers=layers))
    assert count_parameters(model) == (encoder, total)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_counts_leave_the_head_out_and_do_not_depend_on_the_labels(family: str) -> None:
    two, three = (tiny_classifier(family, labels=labels) for labels in (2, 3))
    assert count_parameters(two) == count_parameters(three)
    embeddings = sum(w.numel() for n, w in two.base_model.named_parameters() if "embeddings" in n)
    assert count_parameters(two).total - count_parameters(two).encoder == embeddings > 0


def test_a_frozen_teacher_stays_in_eval_mode_and_gets_no_gradient() -> None:
    teacher, student, batch = freeze_teacher(tiny_classifier().train()), tiny_classifier(seed=1), tiny_batch([5, 3])
    expected = teacher(**batch).logits
    nn.ModuleDict({"student": student, "teacher": teacher}).train()
    teacher.train()
    assert student.training and not any(module.training for module in teacher.modules())
    soft_label_loss(student(**batch).logits, teacher(**batch).logits, 1.0).backward()
    assert all(weight.grad is None and not weight.requires_grad for weight in teacher.parameters())
    assert teacher(**batch).logits.equal(expected)


def test_a_copy_of_a_frozen_teacher_is_frozen_by_itself() -> None:
    teacher = freeze_teacher(tiny_classifier())
    copy = deepcopy(teacher)
    assert copy.train() is copy and not copy.training
