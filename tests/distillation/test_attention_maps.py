"""How far students' attention is from the teacher's, held against plain eager attention and the training loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from internal_kd.data.tokens import TokenSplit
from internal_kd.distillation import attention_maps
from internal_kd.distillation.attention_maps import Distance, Pupil, measure_distances
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.losses import attention_kl, attention_kl_by_head
from internal_kd.distillation.teachers import model_inputs
from internal_kd.errors import UserError
from internal_kd.models.attention import record_internals
from internal_kd.models.classifiers import load_classifier, save_classifier
from internal_kd.models.students import student_from
from tiny_models import PAD, VOCABULARY, tiny_batch, tiny_classifier

CPU = Hardware(torch.device("cpu"), "fp32")
LENGTHS = [9, 3, 6, 12, 5, 9, 7]
two_families = pytest.mark.parametrize("family", ["bert", "roberta"])


def write_split(folder: Path) -> TokenSplit:
    folder.mkdir()
    rng = np.random.default_rng(0)
    ids = [np.append(rng.integers(2, VOCABULARY, length - 1), 2) for length in LENGTHS]
    np.save(folder / "dev.idx.npy", np.arange(len(LENGTHS)) + 100)
    np.save(folder / "dev.labels.npy", np.zeros(len(LENGTHS), dtype=np.int64))
    np.save(folder / "dev.offsets.npy", np.append(0, np.cumsum(LENGTHS)))
    np.save(folder / "dev.ids.npy", np.concatenate(ids).astype(np.int32))
    return TokenSplit(folder, "dev", PAD, False)


def saved(model: PreTrainedModel, folder: Path) -> Path:
    save_classifier(model, folder)
    return folder


@pytest.fixture
def split(tmp_path: Path) -> TokenSplit:
    return write_split(tmp_path / "tokens")


def measure(teacher: Path, pupils: list[Pupil], split: TokenSplit, shown: tuple[int, ...] = ()) -> list[Distance | str]:
    return measure_distances(teacher, pupils, split, np.arange(len(split)), shown, 2, CPU)


def distance(found: Distance | str) -> Distance:
    assert isinstance(found, Distance), found
    return found


def eager_attention(folder: Path, ids: np.ndarray) -> list[np.ndarray]:
    """Every layer's probabilities as transformers itself gives them in eval mode, one example without padding."""
    model = load_classifier(folder, 2)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(torch.from_numpy(ids.astype(np.int64))[None], output_attentions=True)
    return [layer[0].double().numpy() for layer in out.attentions]


@two_families
def test_by_head_it_averages_to_the_loss(family: str) -> None:
    batch = tiny_batch([9, 3, 6], length=11)
    maps = []
    for seed in (1, 2):
        recorder = record_internals(tiny_classifier(family, seed=seed))
        with torch.no_grad(), recorder.capture(attention_layers=[3]) as captured:
            recorder.model(**model_inputs(batch, torch.device("cpu")))
        maps.append(captured.attention[3])
    student, teacher = maps
    by_head = attention_kl_by_head(student, teacher, batch["attention_mask"])
    assert by_head.shape == (3, 4) and (by_head > 0).all()
    loss = attention_kl(student, teacher, batch["attention_mask"])
    assert by_head.mean().item() == pytest.approx(loss.item(), rel=1e-6)
    with pytest.raises(UserError, match="must be equal"):
        attention_kl_by_head(student[:, :2], teacher, batch["attention_mask"])


@two_families
def test_layers_are_matched_as_said_and_each_head_is_what_eager_attention_gives(
    family: str, tmp_path: Path, split: TokenSplit
) -> None:
    teacher = tiny_classifier(family, seed=1)
    pupil = Pupil(saved(student_from(teacher, 2, (1, 3)), tmp_path / "student"), (2, 4))
    saved(teacher, tmp_path / "teacher")
    (found,) = measure(tmp_path / "teacher", [pupil], split, shown=(3,))
    kl = distance(found).kl
    assert kl.shape == (len(LENGTHS), 2, 4)
    for position in range(len(LENGTHS)):
        ids = split.ids(position)
        learned, taught = eager_attention(pupil.folder, ids), eager_attention(tmp_path / "teacher", ids)
        for layer, matched in ((0, 1), (1, 3)):
            p, q = taught[matched], learned[layer]
            expected = (p * np.log(p / q)).sum(-1).mean(-1)
            assert kl[position, layer] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert distance(found).maps[3] == pytest.approx(eager_attention(pupil.folder, split.ids(3))[1], abs=1e-5)
    assert list(distance(found).teacher_maps) == [3]


@two_families
def test_the_teacher_itself_is_at_distance_zero(family: str, tmp_path: Path, split: TokenSplit) -> None:
    folder = saved(tiny_classifier(family), tmp_path / "teacher")
    (found,) = measure(folder, [Pupil(folder, (1, 2, 3, 4))], split)
    assert (distance(found).kl == 0).all()


def test_it_is_the_same_every_time_and_in_as_many_rounds_as_memory_asks_for(
    tmp_path: Path, split: TokenSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = tiny_classifier(seed=1)
    pupil = Pupil(saved(student_from(teacher, 2, (1, 2)), tmp_path / "student"), (2, 4))
    saved(teacher, tmp_path / "teacher")
    monkeypatch.setattr(attention_maps, "BATCH_SIZE", 2)
    once, again = (distance(measure(tmp_path / "teacher", [pupil], split)[0]).kl for _ in range(2))
    assert once.tobytes() == again.tobytes()
    monkeypatch.setattr(attention_maps, "MAPS_BYTES", 1)
    assert distance(measure(tmp_path / "teacher", [pupil], split)[0]).kl.tobytes() == once.tobytes()


def test_who_cannot_be_measured_is_named_and_the_others_are(tmp_path: Path, split: TokenSplit) -> None:
    teacher = saved(tiny_classifier(), tmp_path / "teacher")
    fewer = saved(tiny_classifier(layers=2, heads=2), tmp_path / "fewer")
    pupils = [Pupil(fewer, (2, 4)), Pupil(tmp_path / "nowhere", (4,)), Pupil(teacher, (1, 2, 3, 4))]
    heads, nowhere, same = measure(teacher, pupils, split)
    assert heads == "2 heads cannot be matched with the teacher's 4"
    assert "nowhere" in str(nowhere) and "does not exist" in str(nowhere)
    assert isinstance(same, Distance)
