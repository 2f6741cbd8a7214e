"""Timings are taken in turns and summarised round by round."""

import numpy as np
import pytest
import torch

from internal_kd.report.timing import LEAST_ROUNDS, machine_name, one_thread, summarise_rounds, take_turns


def test_contestants_take_turns_and_the_first_round_does_not_count() -> None:
    called: list[tuple[str, int]] = []
    first, second = take_turns([lambda n: called.append(("a", n)), lambda n: called.append(("b", n))], seconds=0)
    assert first.rounds == second.rounds == LEAST_ROUNDS
    assert called[:6] == [("a", 0), ("b", 0), ("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert len(called) == 2 * (1 + LEAST_ROUNDS)


def test_rounds_are_added_while_they_fit_into_the_time() -> None:
    (timing,) = take_turns([lambda number: None], seconds=0.05)
    assert timing.rounds > LEAST_ROUNDS


def test_a_disturbance_that_meets_all_alike_moves_no_speed_up() -> None:
    quiet = np.array([[10.0, 5.0], [12.0, 6.0], [14.0, 7.0]])
    disturbed = quiet * np.array([[1.0], [7.0], [1.0]])
    for rounds in (quiet, disturbed):
        teacher, student = summarise_rounds(rounds)
        assert teacher.speed_up == 1 and student.speed_up == pytest.approx(2)
    assert summarise_rounds(quiet)[1].median_ms == 6 and summarise_rounds(quiet)[1].low_ms == 5.5


def test_one_thread_and_no_gradients_inside_the_block_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1 and torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == 2 and not torch.is_inference_mode_enabled()
    torch.set_num_threads(before)


def test_the_machine_is_named_with_its_cores() -> None:
    assert "logical cores" in machine_name()


def test_named_contestants_see_the_same_examples_in_turns():
    from internal_kd.report.latency import time_contestants

    class Examples:
        lengths = np.array([5, 9, 7])

        def __len__(self):
            return 3

        def batch(self, positions):
            return {"idx": tuple(positions)}

    seen = {"a": [], "b": []}
    contestants = {name: (lambda batch, name=name: seen[name].append(batch["idx"])) for name in seen}
    lines = time_contestants({name: (ask, Examples()) for name, ask in contestants.items()}, seconds=0.0)
    assert [(line.contestant, line.batch) for line in lines] == [("a", 1), ("b", 1), ("a", 32), ("b", 32)]
    assert seen["a"] == seen["b"] and len(seen["a"]) >= 10
    # 32 of three examples are all three: their longest has 9 tokens.
    assert lines[2].tokens == 9 and lines[0].timing.speed_up == 1
