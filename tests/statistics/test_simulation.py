"""Intervals cover the truth as often as they promise, false alarms are rare, and real leads are found."""

import numpy as np
import pytest
from simulated import differences, draw_answers, p_of

from internal_kd.statistics import compare, holm

# Standard deviations of a seed's accuracy.
STDS = [0.0, 0.008, 0.02]
# Dev examples, true lead, and the share of leads that one coherent test showed with 3, 5 and 10 seeds in another
# simulation (base accuracy 80 %, seeds' standard deviation 1.2 points, three rows against one baseline, Holm's
# correction). Two simulations of 200 studies differ by this many points.
POWER = {(277, 0.04): (23, 44, 93), (408, 0.04): (27, 65, 96), (1043, 0.04): (42, 87, 100), (5463, 0.02): (22, 39, 87)}
NOISE = 6


def missed(seeds, examples, seed_std, studies, own=0.05, lead=0.0):
    """Return how often the 95 % interval does not cover the true lead; with no lead, how often one is seen."""
    rng, wrong = np.random.default_rng(20), []
    for _ in range(4):
        (baseline, ours), (_, truth) = draw_answers(rng, studies // 4, [0.0, lead], seeds, examples, seed_std, own)
        difference, error, degrees = differences(baseline, ours)
        wrong.append(p_of(difference - truth, error, degrees) < 0.05)
    return float(np.mean(wrong))


@pytest.mark.parametrize("seed_std", STDS)
@pytest.mark.parametrize(("seeds", "examples", "studies"), [(5, 277, 3000), (10, 277, 2000), (5, 1043, 1000)])
def test_95_percent_intervals_cover_the_truth_in_93_to_97_of_100_studies(seeds, examples, studies, seed_std):
    # Where seeds add nothing at all, the variance that they seem to add by chance makes intervals a little too wide.
    assert 0.93 <= 1 - missed(seeds, examples, seed_std, studies) <= (0.97 if seed_std else 0.98)


@pytest.mark.parametrize("own", [0.0, 0.2])
@pytest.mark.parametrize("lead", [0.0, 0.1])
def test_coverage_depends_neither_on_the_lead_nor_on_what_each_method_finds_hard(own, lead):
    assert 0.93 <= 1 - missed(5, 277, 0.012, 2000, own, lead) <= 0.97


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("seed_std", STDS)
def test_false_positives_are_at_most_6_in_100(seeds, seed_std):
    assert missed(seeds, 277, seed_std, 2000) <= 0.06


@pytest.mark.parametrize(("examples", "lead"), POWER)
def test_true_leads_are_found(examples, lead):
    rng = np.random.default_rng(21)
    for seeds, expected in zip((3, 5, 10), POWER[examples, lead], strict=True):
        shown = []
        for _ in range(5 if examples < 5000 else 3):
            (baseline, *rows), _ = draw_answers(rng, 40, [0, lead, lead, lead], seeds, examples, 0.012, own=0.0)
            ps = np.stack([p_of(*differences(baseline, ours)) for ours in rows], axis=1)
            shown += [np.array(holm(study)) < 0.05 for study in ps]
        assert 100 * np.mean(shown) >= expected - NOISE, f"{seeds} seeds"


def test_compare_judges_as_the_simulation_does():
    rng = np.random.default_rng(22)
    (baseline, ours), _ = draw_answers(rng, 20, [0.0, 0.04], 4, 150, 0.012)
    difference, error, degrees = differences(baseline, ours)
    for study in range(20):
        result = compare(np.ones(150, int), baseline[study], ours[study])
        found = (result.difference, result.new.error, result.new.degrees, result.p)
        expected = (difference[study], error[study], degrees[study])
        assert found == pytest.approx((*expected, p_of(*expected)), rel=1e-6)
