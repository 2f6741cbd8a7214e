"""The benchmark gives every contestant the same work, measures it round by round, and says what is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.contestants import by_name
from bench.page import BEGIN, END, measured_part, put_into
from bench.rounds import run_in_turn
from bench.targets import ratio, targets, whole_curriculum
from bench.workload import Corpus, Workload, deal, make_workload, read_batches

TINY = Workload(
    examples=60, vocabulary=1200, width=16, heads=2, teacher_layers=12, student_layers=6, batch_size=4, steps=2,
    rounds=3, pool=8, warm_up=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy models and sixty examples."""
    folder = tmp_path_factory.mktemp("bench")
    make_workload(TINY, folder)
    return folder


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
    from internal_kd.data.tokens import TokenStore

    positions = read_batches(tiny, "shuffled")[0]
    ours, theirs = TokenStore(tiny / "tokens").split("train").batch(positions), Corpus(tiny).batch(positions)
    assert all(theirs[name].equal(ours[name]) for name in ("input_ids", "attention_mask"))


def rounds(*laps: list[float]) -> dict[str, Any]:
    return {"loss": 1.5, "rounds": [{"laps": x, "examples": 4, "padded": 40, "peak_memory": 2**30} for x in laps]}


def results(**changes: Any) -> dict[str, Any]:
    comparison = {
        "row_33": rounds([1.1], [2.4]),
        "finetuned": rounds([1.0], [2.0]),
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


def test_ratios_are_taken_round_by_round() -> None:
    # The second round was disturbed, for both alike.
    assert str(ratio([1.2, 12.0, 1.2], [1.0, 10.0, 1.0])) == "1.20 (1.20 to 1.20)"


def test_a_whole_curriculum_weighs_its_stages_by_their_epochs() -> None:
    found = {"progressive": rounds([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0])}
    assert whole_curriculum(found, "progressive", 50, 5) == pytest.approx([(30 * 1.0 + 20 * 3.0) / (50 * 4)])


def test_a_target_is_reached_or_it_is_said_that_it_is_not() -> None:
    reached = {target.what: target.reached for target in targets(results())}
    assert reached["step of row 3.3 / step of fine-tuning the same student"]  # 1.1 and 1.2
    assert not reached["examples/s over the best peer, recording spread over 10 epochs"]  # 3.6 / 1.2 and 7.5 / 2.5
    assert reached["the same over TextBrewer as shipped"]  # 12 / 1.2 and 25 / 2.5
    assert not reached["the same over torchdistill as shipped"]
    assert len(reached) == 5


def test_the_page_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Why\n\n{BEGIN}\nold\n{END}\n\nBy hand.\n")
    put_into(page, measured_part(results()))
    text = page.read_text()
    assert text.startswith("# Why\n") and text.endswith("By hand.\n") and "old" not in text
    row = next(line for line in text.splitlines() if line.startswith("| the same over torchdistill as shipped"))
    assert row.endswith("| ≥ 6 | 3.27 (3.20 to 3.33) | **not reached** |")


@pytest.mark.slow
def test_contestants_run_in_turn_and_compute_the_same_loss(tiny: Path) -> None:
    from bench.ours import record

    from internal_kd.distillation.hardware import choose_hardware

    record(TINY, tiny, choose_hardware("fp32"), tiny / "recorded")
    contestants = [
        by_name(name) for name in ("row_33", "progressive", "plain_buckets", "unbucketed", "textbrewer_best")
    ]
    found = run_in_turn(contestants, tiny, None, 1, TINY.rounds, 1.0)
    assert list(found) == ["row_33", "progressive", "plain_buckets", "unbucketed"]  # no peers' environment
    for name, stages in (("row_33", 1), ("progressive", 7), ("plain_buckets", 1), ("unbucketed", 1)):
        assert [len(one["laps"]) for one in found[name]["rounds"]] == [stages] * TINY.rounds
        assert {one["examples"] for one in found[name]["rounds"]} == {TINY.batch_size * TINY.steps}
    assert found["row_33"]["loss"] == pytest.approx(found["plain_buckets"]["loss"], rel=5e-3)
    padded = {name: [one["padded"] for one in found[name]["rounds"]] for name in found}
    assert padded["row_33"] == padded["progressive"] == padded["plain_buckets"]
