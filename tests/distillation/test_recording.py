"""Recordings: what is read back is what the teacher answers, of every kind, whatever the order and the padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import CPU, TinyExamples, tiny_teacher

from internal_kd.distillation.answers import Live, Recorded
from internal_kd.distillation.declarations import KINDS
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.recording import RecordingReader, RecordingWriter, as_recorded, file_name
from internal_kd.distillation.recording_size import affordable, bytes_of, recording_bytes, stored
from internal_kd.errors import UserError
from internal_kd.learners.learner import OF_PAIRS, OF_TREES, Wanted

SIZES = {"classes": 2, "width": 32, "heads": 4, "inner": 32}
EXAMPLES = TinyExamples(7)
LAYERED = [kind for kind, facts in KINDS.items() if facts.by_layer]
EVERYTHING: Wanted = frozenset({("logits", 0), ("hidden", 0), *((kind, layer) for kind in LAYERED for layer in (2, 4))})


def record(folder: Path, wanted: Wanted = EVERYTHING, positions: Any = range(7), hardware: Hardware = CPU) -> None:
    """Record some examples in two batches, in no particular order."""
    folder.mkdir(exist_ok=True)
    positions = np.array(positions)
    live = Live(tiny_teacher(), hardware)
    writer = RecordingWriter(folder, EXAMPLES.idx[positions], EXAMPLES.lengths[positions], wanted, SIZES)
    for rows in (np.arange(len(positions))[::2][::-1], np.arange(len(positions))[1::2]):
        writer.write(rows, live.answers(EXAMPLES.batch(positions[rows]), writer.wanted))
    writer.flush()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("recorded") / "everything"
    record(made)
    return made


def real(kind: str, tensor: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The part of a batch's tensor that is not padding, flattened; what is on padding never counts."""
    counts = torch.ones(tensor.shape, dtype=torch.bool)
    for axis, name in enumerate(KINDS[kind].axes, start=1):
        if name == "tokens":
            shape = [len(mask), *(tensor.shape[i] if i == axis else 1 for i in range(1, tensor.ndim))]
            counts &= mask.bool().reshape(shape)
    return tensor[counts].float()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in OF_TREES | OF_PAIRS])
def test_what_is_read_is_what_the_teacher_answers(folder: Path, kind: str) -> None:
    wanted = frozenset(one for one in EVERYTHING if one[0] == kind)
    batch = EXAMPLES.batch(np.array([4, 1, 0]))
    padded = torch.nn.functional.pad
    batch = {n: padded(t, (0, 2), value=int(n == "input_ids")) if t.ndim == 2 else t for n, t in batch.items()}
    read = Recorded(RecordingReader(folder), None, CPU).answers(batch, wanted)
    answered = Live(tiny_teacher(), CPU).answers(batch, wanted)
    assert read.keys() == answered.keys() == wanted
    for one in wanted:
        assert read[one].shape == answered[one].shape
        found, expected = (real(kind, side[one], batch["attention_mask"]) for side in (read, answered))
        torch.testing.assert_close(found, expected, atol=1e-2, rtol=2e-3)


def test_logits_are_kept_in_full_precision(folder: Path) -> None:
    batch = EXAMPLES.batch(np.arange(7))
    (read,) = Recorded(RecordingReader(folder), None, CPU).answers(batch, frozenset({("logits", 0)})).values()
    (answered,) = Live(tiny_teacher(), CPU).answers(batch, frozenset({("logits", 0)})).values()
    assert read.dtype == torch.float32
    torch.testing.assert_close(read, answered, atol=1e-5, rtol=1e-5)


def test_no_padding_is_stored_and_the_estimate_is_exact(folder: Path) -> None:
    for kind, layer in stored(EVERYTHING):
        array = np.load(folder / file_name(kind, layer), mmap_mode="r")
        assert array.nbytes == bytes_of(kind, EXAMPLES.lengths, SIZES)
    assert bytes_of("attention", np.array([3, 5]), SIZES) == 2 * 4 * (9 + 25)
    assert bytes_of("hidden", np.array([3, 5]), SIZES) == 2 * 32 * 8
    assert bytes_of("logits", np.array([3, 5]), SIZES) == 4 * 2 * 2
    total = sum(np.load(path, mmap_mode="r").nbytes for path in folder.glob("*.npy") if "L" in path.name)
    assert total + 4 * 2 * 7 == recording_bytes(EVERYTHING, EXAMPLES.lengths, SIZES)


def test_scores_are_not_stored_but_made_of_their_parts() -> None:
    assert stored(frozenset({("scores", 3)})) == {("attention", 3), ("attention_lse", 3)}


def test_only_the_examples_asked_for_are_recorded_and_another_is_named(tmp_path: Path) -> None:
    record(tmp_path / "some", frozenset({("logits", 0), ("hidden", 2)}), positions=[5, 2, 3])
    recorded = Recorded(RecordingReader(tmp_path / "some"), None, CPU)
    wanted = frozenset({("hidden", 2)})
    found = recorded.answers(EXAMPLES.batch(np.array([3, 5])), wanted)["hidden", 2]
    expected = Live(tiny_teacher(), CPU).answers(EXAMPLES.batch(np.array([3, 5])), wanted)["hidden", 2]
    torch.testing.assert_close(
        found[0, : EXAMPLES.lengths[3]].float(), expected[0, : EXAMPLES.lengths[3]], atol=1e-2, rtol=0
    )
    with pytest.raises(UserError, match=str(EXAMPLES.idx[1])):
        recorded.answers(EXAMPLES.batch(np.array([3, 1])), wanted)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["attention", "hidden", "scores"])
def test_layers_left_out_are_computed_as_if_they_had_been_recorded(tmp_path: Path, precision: str, kind: str) -> None:
    hardware = Hardware(torch.device("cpu"), precision)
    wanted = frozenset({(kind, 2), (kind, 4)})
    answers = {}
    for name, layers in (("all", wanted), ("part", frozenset({(kind, 4)}))):
        record(tmp_path / name, layers, hardware=hardware)
        recorded = Recorded(RecordingReader(tmp_path / name), Live(tiny_teacher(), hardware), hardware)
        assert recorded.missing(wanted) == stored(wanted - layers)
        # A batch that was recorded, and one whose sums are added in another order.
        for rows in ([6, 4, 2, 0], [2, 3]):
            batch = EXAMPLES.batch(np.array(rows))
            answers[name, len(rows)] = real(kind, recorded.answers(batch, wanted)[kind, 2], batch["attention_mask"])
    assert torch.equal(answers["part", 4], answers["all", 4])
    if precision == "fp32":  # else off by a rounding of bf16 before the one of fp16
        torch.testing.assert_close(answers["part", 2], answers["all", 2], rtol=2**-9, atol=1e-6)


def test_what_was_not_recorded_needs_a_teacher_to_compute_it(tmp_path: Path) -> None:
    record(tmp_path / "some", frozenset({("attention", 4)}))
    recorded = Recorded(RecordingReader(tmp_path / "some"), None, CPU)
    with pytest.raises(UserError, match="attention of layer 2"):
        recorded.answers(EXAMPLES.batch(np.arange(2)), frozenset({("attention", 2)}))


def test_probabilities_of_nothing_stay_finite_on_disk() -> None:
    assert as_recorded("attention", torch.tensor([-1e38, -torch.inf, -0.5])).tolist() == [-60000.0, -60000.0, -0.5]


# The budget


def test_the_budget_keeps_the_highest_layers_and_what_is_small_always() -> None:
    lengths = np.full(1000, 10)
    wanted = frozenset({("logits", 0), *(("cls", n) for n in (2, 4)), *(("attention", n) for n in (2, 4, 6))})
    each = bytes_of("attention", lengths, SIZES) / 1e9
    assert affordable(wanted, lengths, SIZES, 3 * each) == wanted
    assert affordable(wanted, lengths, SIZES, 2.9 * each) == wanted - {("attention", 2)}
    assert affordable(wanted, lengths, SIZES, 0) == {("logits", 0), ("cls", 2), ("cls", 4)}


def test_the_budget_goes_to_a_layer_before_the_one_below_it() -> None:
    lengths = np.full(1000, 10)
    wanted = frozenset({("hidden", 2), ("hidden", 4), ("scores", 4)})
    top = recording_bytes(frozenset({("hidden", 4), ("scores", 4)}), lengths, SIZES) / 1e9
    assert affordable(wanted, lengths, SIZES, top) == stored(wanted) - {("hidden", 2)}


# Damage


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    record(tmp_path / "some", frozenset({("cls", 2)}))
    file = tmp_path / "some/cls-L2.npy"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"cls-L2\.npy"):
        Recorded(RecordingReader(tmp_path / "some"), None, CPU).answers(
            EXAMPLES.batch(np.arange(2)), frozenset({("cls", 2)})
        )


def test_every_file_is_verified_once_before_it_is_used(folder: Path) -> None:
    verified: list[str] = []
    recorded = Recorded(RecordingReader(folder, verify=lambda path: verified.append(path.name)), None, CPU)
    assert sorted(verified) == ["ids.npy", "lengths.npy"]
    for _ in range(2):
        recorded.answers(EXAMPLES.batch(np.arange(2)), frozenset({("cls", 2)}))
    assert verified[2:] == ["cls-L2.npy"]


def test_a_damaged_file_is_not_used(folder: Path) -> None:
    def refuse(path: Path) -> None:
        if path.name == "hidden-L2.npy":
            raise UserError(f"{path} is damaged")

    recorded = Recorded(RecordingReader(folder, verify=refuse), None, CPU)
    recorded.answers(EXAMPLES.batch(np.arange(2)), frozenset({("hidden", 4)}))
    with pytest.raises(UserError, match="hidden-L2"):
        recorded.answers(EXAMPLES.batch(np.arange(2)), frozenset({("hidden", 2)}))


def test_a_recording_of_other_lengths_is_refused(folder: Path) -> None:
    batch = EXAMPLES.batch(np.arange(7))
    short = {name: tensor[:, :4] if tensor.ndim == 2 else tensor for name, tensor in batch.items()}
    with pytest.raises(UserError, match="tokens"):
        Recorded(RecordingReader(folder), None, CPU).answers(short, frozenset({("hidden", 2)}))
