"""What would decide a difference: more seeds, or only more dev examples."""

import numpy as np
import pytest

from internal_kd.analysis.outlook import outlook
from internal_kd.analysis.resampling import difference_interval, seed_mean

RESAMPLES = 4000


def method(mean, seeds, *, examples=0.0, of_seeds=0.0, own=0.0, rng_seed=0):
    """A method whose seeds differ by ``of_seeds`` on these examples; other examples would give ``own`` of it anew."""
    rng = np.random.default_rng(rng_seed)
    given = rng.normal(size=seeds) if seeds > 1 else np.zeros(1)
    given = of_seeds * (given - given.mean()) / (given.std(ddof=1) if seeds > 1 else 1.0)
    scores = mean + given[:, None] + examples * rng.normal(size=RESAMPLES) + own * rng.normal(size=(seeds, RESAMPLES))
    return seed_mean(scores, rng)


def width(a, b):
    low, high = difference_interval(a, b)
    return (high - low) / 2


def test_seeds_that_do_not_vary_leave_what_the_examples_leave():
    found = outlook(0.5, method(0.5, 3, examples=0.1), method(0, 3))
    assert found.many_seeds == pytest.approx(1.96 * 0.1, rel=0.05)
    assert found.seeds_needed == 2


def test_a_difference_within_the_examples_noise_takes_no_number_of_seeds():
    assert outlook(0.15, method(0.15, 3, examples=0.1, of_seeds=0.1), method(0, 3)).seeds_needed is None


def test_a_difference_of_nothing_takes_no_number_of_seeds():
    assert outlook(0.0, method(0, 3, of_seeds=0.1), method(0, 3)).seeds_needed is None


@pytest.mark.parametrize("difference", [0.2, 0.1])
def test_with_so_many_seeds_the_interval_leaves_0_out_and_with_fewer_it_does_not(difference):
    few = [method(0, 3, examples=0.02, of_seeds=0.1), method(0, 3, of_seeds=0.1, rng_seed=1)]
    needed = outlook(difference, *few).seeds_needed
    ends = {
        seeds: width(method(0, seeds, examples=0.02, of_seeds=0.1), method(0, seeds, of_seeds=0.1, rng_seed=1))
        for seeds in (max(2, needed - 1), needed + 1)
    }
    # One seed less or more: the resampled interval has Monte-Carlo noise of its own.
    assert ends[needed + 1] < difference * 1.03
    assert ends[max(2, needed - 1)] > difference * 0.97


def test_what_a_seed_gets_right_by_itself_goes_with_more_seeds():
    # Seeds that differ by their own errors on these examples alone: nothing is left with many.
    a, b = (method(0, 5, of_seeds=0.1, own=0.1, rng_seed=seed) for seed in (2, 3))
    found = outlook(0.3, a, b)
    assert found.many_seeds < 0.03
    assert found.seeds_needed is not None


def test_one_seed_says_nothing_of_others():
    assert outlook(0.3, method(0.3, 1), method(0, 3, of_seeds=0.1)) is None
