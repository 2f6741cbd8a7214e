"""The best shift of unseen classes' biases: the one that trying every amount would find."""

from __future__ import annotations

import numpy as np
import pytest

from internal_kd.errors import UserError
from internal_kd.statistics import best_shift, shifted_predictions


@pytest.mark.parametrize("seed", range(20))
def test_no_other_amount_has_fewer_errors(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    logits, labels = drawn.normal(size=(60, 4)), drawn.integers(0, 4, 60)
    unseen = [3] if seed % 2 else [0, 2]

    def errors(shift: float) -> int:
        return int((shifted_predictions(logits, unseen, shift) != labels).sum())

    assert errors(best_shift(logits, labels, unseen)) == min(errors(shift) for shift in np.linspace(-8, 8, 3201))


def test_a_bias_that_was_lowered_is_found_again() -> None:
    drawn = np.random.default_rng(0)
    labels = drawn.integers(0, 5, 500)
    logits = 4 * np.eye(5)[labels] + drawn.normal(scale=0.3, size=(500, 5))
    lowered = logits.copy()
    lowered[:, 2] -= 6
    assert (lowered.argmax(1) == labels).mean() < 0.85
    shift = best_shift(lowered, labels, [2])
    assert 3 < shift < 9 and (shifted_predictions(lowered, [2], shift) == labels).all()


@pytest.mark.parametrize(("labels", "unseen"), [([0], []), ([0], [0, 1]), ([0, 1], [1])])
def test_what_has_no_shift_is_refused(labels: list[int], unseen: list[int]) -> None:
    with pytest.raises(UserError):
        best_shift([[1.0, 2.0]], labels, unseen)
