"""The benchmark gives every contestant the same work, measures it round by round, and compares it with targets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench.contestants import INTERNAL, Contestant, by_name
from bench.objectives import names, recorded, terms_for, turns
from bench.pace import Pace
from bench.page import BEGIN, END, measured_part, put_into
from bench.rounds import run_in_turn
from bench.targets import by_objective, complete_curriculum, ratio, targets
from bench.workload import Corpus, Workload, deal, load_model, make_workload, read_batches
from torch.utils.flop_counter import FlopCounterMode

from bench import ours, products
from internal_kd.data.inputs import EncodedTask
from internal_kd.distillation.hardware import Hardware
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.distillation.recording import RecordingReader
from internal_kd.distillation.terms import asked_of_teacher

# The heads of MiniLM's relations, 12, have to divide the width.
TINY = Workload(
    examples=60, vocabulary=1200, width=24, heads=2, teacher_layers=4, student_layers=2, classes=3, batch_size=4,
    steps=2, rounds=3, pool=8, warm_up=1,
)  # fmt: skip
CPU = Hardware(torch.device("cpu"), "fp32")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy models, sixty examples and a recording of all that any objective reads."""
    folder = tmp_path_factory.mktemp("bench")
    make_workload(TINY, folder)
    ours.record(TINY, folder, CPU, names())
    return folder


class Laps(Pace):
    """A pace that never waits and keeps the shapes of each lap's steps; it ends a contestant after one round."""

    def __init__(self) -> None:
        self.laps, self.of_lap, self.shapes, self.loss = 1, 0, [], None

    def in_laps(self, laps: int) -> None:
        self.laps = laps

    def first_loss(self, loss: float) -> None:
        self.loss = loss

    def tick(self, shape: torch.Size) -> None:
        if len(self.shapes) == self.laps * (TINY.warm_up + TINY.steps):
            raise SystemExit
        self.shapes.append(tuple(shape))


def run(contestant: Contestant, folder: Path) -> Laps:
    """Let a contestant train for its warm-up and one round, in this process."""
    pace = Laps()
    with pytest.raises(SystemExit):
        ours.train(contestant, TINY, folder, CPU, pace)
    return pace


def test_every_round_holds_as_many_batches_and_about_as_many_padded_tokens() -> None:
    lengths = [int(x) for x in np.random.default_rng(0).integers(5, 128, 40)]
    parts = np.array(deal([[n] for n in range(40)], lengths, 5)).reshape(5, 8)
    assert sorted(parts.ravel()) == list(range(40))
    loads = np.array(lengths)[parts].sum(1)
    assert loads.max() / loads.min() < 1.05


def test_bucketed_and_shuffled_batches_are_cut_from_the_same_pool(tiny: Path) -> None:
    dealt = {kind: read_batches(tiny, kind)[TINY.warm_up : -1] for kind in ("bucketed", "shuffled")}
    held = {kind: sorted(position for batch in batches for position in batch) for kind, batches in dealt.items()}
    # A pool of 32 examples; six of its eight batches are run.
    assert all(len(set(found)) == 24 and set(found) <= set(range(32)) for found in held.values())
    longest = {kind: sum(Corpus(tiny).batch(b)["input_ids"].shape[1] for b in dealt[kind]) for kind in dealt}
    assert longest["bucketed"] < longest["shuffled"]


def test_the_peers_read_the_batches_that_we_read(tiny: Path) -> None:
    positions = read_batches(tiny, "shuffled")[0]
    mine, theirs = EncodedTask(tiny / "inputs").split("train").batch(positions), Corpus(tiny).batch(positions)
    assert all(theirs[name].equal(mine[name]) for name in ("input_ids", "attention_mask"))


def test_every_objective_has_a_turn_beside_plain_soft_labels() -> None:
    order, names = turns(), {name for name in OBJECTIVES if not name.startswith(("tree_", "mutual"))}
    assert set(order) == names
    assert all(order.count(name) == 1 for name in names - {"soft"})
    assert order[0] == order[-1] == "soft" and order.count("soft") >= len(names) // 3


def test_every_objective_trains_in_its_turn_on_the_same_batches(tiny: Path) -> None:
    pace = run(by_name("objectives"), tiny)
    assert pace.laps == len(turns()) and np.isfinite(pace.loss)
    timed = np.array(pace.shapes[pace.laps * TINY.warm_up :]).reshape(pace.laps, TINY.steps, 2)
    assert (timed == timed[0]).all()


def test_bytes_an_example_are_those_of_the_recording(tiny: Path) -> None:
    positions = np.unique(np.concatenate([*read_batches(tiny, "bucketed"), *read_batches(tiny, "shuffled")]))
    lengths = EncodedTask(tiny / "inputs").split("train").lengths[positions]
    found = recorded(TINY, lengths)
    assert list(found) == list(names())
    assert found["hard"] == {"reads": "nothing", "bytes": 0}
    assert found["word_relation"]["reads"] == "hidden (3 layers)"
    for name in ("hidden_mse", "attention_kl"):
        files = [tiny / f"recorded/{kind}-L{layer}.npy" for kind, layer in asked_of_teacher(terms_for(TINY, [name]))]
        on_disk = sum(path.stat().st_size - 128 for path in files)  # numpy's header
        assert found[name]["bytes"] == pytest.approx(on_disk / len(positions), abs=1)
    assert len(RecordingReader(tiny / "recorded").row_ids) == len(positions)


@pytest.mark.parametrize(
    "name",
    ["finetuned", "row_33", "hidden", "progressive", "recomputed", "unbucketed", "torch_dropout", "full_vocabulary",
     "freed_memory", "untruncated"],
)  # fmt: skip
def test_every_contestant_of_ours_trains_on_the_batches_it_is_given(tiny: Path, name: str) -> None:
    contestant = by_name(name)
    pace = run(contestant, tiny)
    given = read_batches(tiny, contestant.batches)
    if pace.laps == 1:
        expected = [Corpus(tiny).batch(batch)["input_ids"].shape for batch in given[: len(pace.shapes)]]
        assert pace.shapes == expected
    assert pace.laps == (TINY.student_layers + 1 if name in ("progressive", "untruncated") else 1)


def test_a_stage_computes_what_it_needs_unless_it_is_untruncated(tiny: Path) -> None:
    flops = {}
    for name in ("progressive", "untruncated"):
        with FlopCounterMode(display=False) as counted:
            run(by_name(name), tiny)
        flops[name] = counted.get_total_flops()
    assert flops["progressive"] < flops["untruncated"]


def test_the_products_are_those_of_fine_tuning(tiny: Path) -> None:
    batch = Corpus(tiny).batch(read_batches(tiny, "bucketed")[1])
    with FlopCounterMode(display=False) as alone:
        products.step_of(TINY, torch.float32)(*batch["input_ids"].shape)
    student = load_model(tiny / "student", attn_implementation="eager")
    with FlopCounterMode(display=False) as counted:
        student(**batch).logits.sum().backward()
    head = 3 * 2 * TINY.batch_size * TINY.width * (TINY.width + TINY.classes)
    assert alone.get_total_flops() == counted.get_total_flops() - head


def rounds(*laps: list[float]) -> dict[str, Any]:
    return {"loss": 1.5, "rounds": [{"laps": x, "examples": 4, "padded": 40, "peak_memory": 2**30} for x in laps]}


def results(**changes: Any) -> dict[str, Any]:
    comparison = {
        "row_33": rounds([1.1], [2.4]),
        "finetuned": rounds([1.0], [2.0]),
        "hidden": rounds([1.4], [2.8]),
        "recording": rounds([1.0], [1.0]),
        "progressive": rounds([0.5] * 7, [1.2] * 7),
        "textbrewer_shipped": rounds([12.0], [25.0]),
        "textbrewer_best": rounds([3.6], [7.5]),
        "torchdistill_shipped": rounds([4.0], [8.0]),
        "torchdistill_best": rounds([4.0], [8.0]),
    }
    machine = {"gpu": None, "cpu": "a CPU", "cores": 2, "threads": 1, "memory_gb": 8, "system": "Linux", "load": 0.1}
    made = {"machine": machine, "versions": {"torch": "2"}, "command": "make bench", "day": "2026-01-01"}
    made |= {"workload": vars(Workload()), "lengths": {"mean": 24.0, "longest": 128}, "comparison": comparison}
    return made | {"curriculum": {"epochs": 50, "epochs_per_layer": 5}} | changes


def reached(measured: dict[str, Any]) -> dict[str, bool]:
    return {target.what: target.reached for target in targets(measured)}


def test_ratios_are_taken_round_by_round() -> None:
    # The second round was disturbed, for both alike.
    assert str(ratio([1.2, 12.0, 1.2], [1.0, 10.0, 1.0])) == "1.20 (1.20 to 1.20)"


def test_a_complete_curriculum_weighs_its_stages_by_their_epochs() -> None:
    found = {"progressive": rounds([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0])}
    assert complete_curriculum(found, "progressive", 50, 5) == pytest.approx([(30 * 1.0 + 20 * 3.0) / (50 * 4)])


def test_an_objective_is_compared_with_the_soft_labels_of_its_own_round() -> None:
    # The first turn of a round does not count; the second round was disturbed.
    found = {"objectives": rounds([9.0, 1.5, 1.0, 2.0, 1.0], [90.0, 15.0, 10.0, 20.0, 10.0])}
    step = by_objective(found, ("soft", "a", "soft", "b", "soft"))
    assert {name: str(value) for name, value in step.items()} == {
        "soft": "1.00 (1.00 to 1.00)", "a": "1.50 (1.50 to 1.50)", "b": "2.00 (2.00 to 2.00)",
    }  # fmt: skip


def test_a_target_is_reached_or_it_is_not() -> None:
    found = reached(results())
    assert found["step of row 3.3 / step of fine-tuning the same student"]  # 1.1 and 1.2
    assert not found["step with the hidden states of all layers / step of fine-tuning the same student"]  # 1.4
    assert not found["examples/s over the best peer, recording spread over 10 epochs"]  # 3.6 / 1.2 and 7.5 / 2.5
    assert found["the same over TextBrewer as shipped"]  # 12 / 1.2 and 25 / 2.5
    assert not found["the same over torchdistill as shipped"]
    assert len(found) == 6


def test_what_was_not_measured_has_no_target() -> None:
    planning = [
        {"runs": 200, "dry_run_seconds": 7.0, "nothing_to_do_seconds": 5.0},
        {"runs": 2024, "dry_run_seconds": 7.0, "nothing_to_do_seconds": 5.1},
    ]
    promises = {"help_seconds": 0.31, "planning": planning, "bytes_few": 100, "bytes_many": 109}
    alone = results(promises=promises)
    del alone["comparison"]
    assert list(reached(alone).values()) == [True, False, False, True, True, False]
    bf16 = {name: rounds([value]) for name, value in (("products", 1.0), ("finetuned", 1.9), ("row_33", 2.3))}
    alone = {**alone, "bf16": {f"{name}_bf16": found for name, found in bf16.items()}}
    del alone["promises"]
    assert list(reached(alone).values()) == [True, False]


def test_the_page_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Why\n\n{BEGIN}\nold\n{END}\n\nBy hand.\n")
    laps = rounds([1.0, 1.2, 1.0])
    measured = results(objectives={"objectives": laps}, turns=["soft", "rkd", "soft"])
    measured["recorded"] = {"soft": {"reads": "logits", "bytes": 8}, "rkd": {"reads": "cls (1 layer)", "bytes": 768}}
    put_into(page, measured_part(measured))
    text = page.read_text()
    assert text.startswith("# Why\n") and text.endswith("By hand.\n") and "old" not in text
    row = next(line for line in text.splitlines() if line.startswith("| the same over torchdistill as shipped"))
    assert row.endswith("| ≥ 6 | 3.27 (3.20 to 3.33) | **not reached** |")
    assert "| `rkd` | 1.20 (1.20 to 1.20) | cls (1 layer) | 0.8 |" in text


def test_the_page_has_a_place_for_what_is_measured() -> None:
    text = (Path(__file__).parents[2] / "docs/explanation/performance.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1


@pytest.mark.slow
def test_contestants_run_in_turn_and_compute_the_same_loss(tmp_path: Path) -> None:
    workload = replace(TINY, classes=2)
    make_workload(workload, tmp_path)
    ours.record(workload, tmp_path, CPU, INTERNAL)
    contestants = [by_name(name) for name in ("row_33", "plain_buckets", "textbrewer_best")]
    found = run_in_turn(contestants, tmp_path, None, 1, workload.rounds, 1.0)
    assert list(found) == ["row_33", "plain_buckets"]  # no peers' environment
    for name in found:
        assert [len(one["laps"]) for one in found[name]["rounds"]] == [1] * workload.rounds
        assert {one["examples"] for one in found[name]["rounds"]} == {workload.batch_size * workload.steps}
    assert found["row_33"]["loss"] == pytest.approx(found["plain_buckets"]["loss"], rel=5e-3)
    padded = {name: [one["padded"] for one in found[name]["rounds"]] for name in found}
    assert padded["row_33"] == padded["plain_buckets"]
