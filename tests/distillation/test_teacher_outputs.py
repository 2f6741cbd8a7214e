"""Recorded teachers: what comes back is what was said, whatever the order of the batches."""

import numpy as np
import pytest
import torch

from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.losses import attention_kl
from internal_kd.distillation.teacher_outputs import (
    TeacherOutputsReader,
    TeacherOutputsWriter,
    as_recorded,
    attention_bytes,
)
from internal_kd.distillation.teachers import ComputedTeacher, RecordedTeacher, Wanted
from internal_kd.errors import UserError
from internal_kd.models.classifiers import freeze_teacher
from tiny_models import tiny_batch, tiny_classifier

LENGTHS = [5, 9, 3, 7, 6]
IDS = np.array([40, 7, 23, 11, 90])
HARDWARE = Hardware(torch.device("cpu"), "fp32")
WANTED = Wanted(True, (2, 4), (2, 4))


def batch_of(rows: list[int], length: int | None = None) -> dict[str, torch.Tensor]:
    """Rows of one fixed set of examples, cut to their own longest or to ``length``."""
    everything = tiny_batch(LENGTHS, length=12)
    longest = length or max(LENGTHS[row] for row in rows)
    chosen = {name: tensor[rows, :longest] for name, tensor in everything.items()}
    return {**chosen, "idx": torch.from_numpy(IDS[rows])}


@pytest.fixture
def teacher() -> ComputedTeacher:
    return ComputedTeacher(freeze_teacher(tiny_classifier()), HARDWARE)


def record(folder, teacher, attention_layers=(2, 4)):
    writer = TeacherOutputsWriter(
        folder,
        IDS,
        np.array(LENGTHS),
        classes=2,
        width=32,
        heads=4,
        cls_layers=(2, 4),
        attention_layers=attention_layers,
    )
    for rows in ([1, 3], [0, 4, 2]):
        writer.write(np.array(rows), teacher.outputs(batch_of(rows), WANTED))
    writer.flush()
    return TeacherOutputsReader(folder)


def test_reading_in_another_order_and_padding_gives_what_the_teacher_says(tmp_path, teacher):
    recorded = RecordedTeacher(record(tmp_path, teacher), None, HARDWARE)
    batch = batch_of([4, 1, 0], length=11)
    read, said = recorded.outputs(batch, WANTED), teacher.outputs(batch, WANTED)
    torch.testing.assert_close(read.logits, said.logits, atol=1e-5, rtol=1e-5)
    for layer in (2, 4):
        torch.testing.assert_close(read.cls[layer].float(), said.cls[layer], atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(
            real_pairs(read.attention[layer], batch).float(),
            real_pairs(said.attention[layer], batch),
            atol=1e-2,
            rtol=1e-3,
        )
        assert attention_kl(read.attention[layer], said.attention[layer], batch["attention_mask"]) < 1e-4


def test_an_example_that_was_not_recorded_is_named(tmp_path, teacher):
    recorded = RecordedTeacher(record(tmp_path, teacher), None, HARDWARE)
    batch = {**batch_of([0, 1]), "idx": torch.tensor([40, 41])}
    with pytest.raises(UserError, match="example 41"):
        recorded.outputs(batch, WANTED)


def real_pairs(maps: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    real = batch["attention_mask"].bool()
    return maps[(real[:, None, :, None] & real[:, None, None, :]).expand_as(maps)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_layers_left_out_are_computed_as_if_they_had_been_recorded(tmp_path, precision):
    teacher = ComputedTeacher(freeze_teacher(tiny_classifier()), Hardware(torch.device("cpu"), precision))
    maps = {}
    for name, layers in (("whole", (2, 4)), ("part", (4,))):
        (tmp_path / name).mkdir()
        recorded = RecordedTeacher(record(tmp_path / name, teacher, layers), teacher, HARDWARE)
        # The batch that was recorded, and one whose sums are added in another order.
        for rows in ([0, 4, 2], [2, 3]):
            batch = batch_of(rows)
            said = recorded.outputs(batch, WANTED).attention
            assert sorted(said) == [2, 4] and said[2].dtype == torch.float16
            maps[name, len(rows)] = real_pairs(said[2], batch)
    assert torch.equal(maps["part", 3], maps["whole", 3])
    if precision == "fp32":  # else off by a rounding of bf16 before the one of fp16
        torch.testing.assert_close(maps["part", 2], maps["whole", 2], rtol=2**-10, atol=0)


def test_probabilities_of_nothing_stay_finite_on_disk():
    assert as_recorded(torch.tensor([-1e38, -torch.inf, -0.5])).tolist() == [-60000.0, -60000.0, -0.5]


def test_no_padding_is_stored_and_the_estimate_is_exact(tmp_path, teacher):
    record(tmp_path, teacher)
    flat = np.load(tmp_path / "attention-L2.npy", mmap_mode="r")
    assert flat.nbytes == attention_bytes(np.array(LENGTHS), heads=4) == 2 * 4 * sum(n * n for n in LENGTHS)


def test_a_file_cut_short_is_named(tmp_path, teacher):
    record(tmp_path, teacher)
    whole = (tmp_path / "cls-L2.npy").read_bytes()
    (tmp_path / "cls-L2.npy").write_bytes(whole[:-10])
    with pytest.raises(UserError, match=r"cls-L2\.npy is missing or cut short"):
        RecordedTeacher(TeacherOutputsReader(tmp_path), None, HARDWARE).outputs(batch_of([0]), WANTED)
