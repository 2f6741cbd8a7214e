"""Fidelity: how alike student and teacher are, and whether shared mistakes are more than chance."""

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import StratifiedTable

from internal_kd.errors import UserError
from internal_kd.statistics import distance, fidelity, lead, shared_mistakes
from internal_kd.statistics.fidelity import kl_to_teacher

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
TEACHER = np.array([0, 0, 1, 1, 1, 1, 1, 0])
STUDENT = np.array([0, 1, 1, 1, 1, 1, 0, 0])


def logits_of(answers, classes=2, height=2.0):
    return height * np.eye(classes)[answers]


def errors(rng, labels, rates, classes):
    """Answers that err at a rate of each label's own, independently of anything else."""
    wrong = rng.random(len(labels)) < np.asarray(rates)[labels]
    return np.where(wrong, (labels + rng.integers(1, classes, len(labels))) % classes, labels)


def test_a_case_counted_by_hand():
    found = fidelity(LABELS, logits_of(TEACHER), [logits_of(STUDENT)] * 2)
    counts = (found.both_right, found.only_teacher_right, found.only_student_right, found.both_wrong)
    assert counts == (6, 4, 0, 6)
    assert found.agreement.mean == 6 / 8
    # Label 0: 2 and 3 of 4 wrong, label 1: 1 and 2 of 4 wrong.
    shared = found.shared[0]
    assert (shared.mistakes, shared.repeated) == (3, 3)
    assert shared.by_chance == pytest.approx(2 * 3 / 4 + 1 * 2 / 4)
    assert shared.variance == pytest.approx(2 * 3 * 2 * 1 / 48 + 1 * 2 * 3 * 2 / 48)
    assert (found.repeated.mean, found.excess.mean) == (1, pytest.approx(1 - 2 / 3))


def test_kl_is_the_teacher_s_to_the_student_in_nats():
    teacher, student = np.log([[0.25, 0.75]]), np.zeros((1, 2))
    expected = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    assert kl_to_teacher(teacher, student + 7) == pytest.approx([expected])
    assert kl_to_teacher(np.array([[900.0, -900.0]]), np.array([[-900.0, 900.0]])) == pytest.approx([1800])


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_student_that_is_its_teacher_agrees_in_everything(classes):
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(classes, size=120), rng.normal(size=(120, classes))
    found = fidelity(labels, logits, [logits, logits])
    assert (found.agreement.mean, found.divergence.mean, found.repeated.mean) == (1, 0, 1)
    assert found.shared[0].p < 1e-6 and found.excess.low > 0


def test_for_two_classes_the_test_is_statsmodels_cochran_mantel_haenszel():
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=300)
    teacher = errors(rng, labels, [0.2, 0.4], 2)
    student = np.where(rng.random(300) < 0.3, teacher, errors(rng, labels, [0.3, 0.2], 2))
    tables = []
    for label in (0, 1):
        t, s = (given[labels == label] != label for given in (teacher, student))
        tables.append(np.array([[np.sum(t & s), np.sum(t & ~s)], [np.sum(~t & s), np.sum(~t & ~s)]], float))
    expected = StratifiedTable(tables).test_null_odds(correction=True).pvalue
    assert shared_mistakes(labels, teacher, student).p == pytest.approx(expected)


def test_mean_and_variance_are_those_of_all_ways_to_shuffle_a_label_s_answers():
    rng = np.random.default_rng(2)
    labels = rng.integers(3, size=60)
    teacher, student = (errors(rng, labels, [0.5, 0.6, 0.4], 3) for _ in range(2))
    found, counts = shared_mistakes(labels, teacher, student), []
    for _ in range(4000):
        shuffled = student.copy()
        for label in range(3):
            shuffled[labels == label] = rng.permutation(student[labels == label])
        counts.append(np.sum((shuffled == teacher) & (teacher != labels)))
    assert found.by_chance == pytest.approx(np.mean(counts), rel=0.02)
    assert found.variance == pytest.approx(np.var(counts), rel=0.08)


@pytest.mark.parametrize("classes", [2, 3])
def test_independent_errors_are_significant_about_5_times_in_100(classes):
    # Both favour the same label, so over all labels their errors coincide, and within each they do not.
    rng = np.random.default_rng(3)
    rates = [0.1, 0.5, 0.3][:classes]
    by_test, by_interval = 0, 0
    for _ in range(400):
        labels = rng.integers(classes, size=300)
        teacher, student = (errors(rng, labels, rates, classes) for _ in range(2))
        by_test += shared_mistakes(labels, teacher, student).p < 0.05
        found = fidelity(labels, logits_of(teacher, classes), [logits_of(student, classes)])
        by_interval += found.excess.low > 0 or found.excess.high < 0
    assert 0.01 <= by_test / 400 <= 0.075
    assert 0.01 <= by_interval / 400 <= 0.075


def test_repeated_mistakes_are_found():
    rng = np.random.default_rng(4)
    labels = rng.integers(2, size=400)
    teacher = errors(rng, labels, [0.3, 0.3], 2)
    faithful, free = (
        [np.where(rng.random(400) < share, teacher, errors(rng, labels, [0.3, 0.3], 2)) for _ in range(3)]
        for share in (0.7, 0.3)
    )
    assert all(shared_mistakes(labels, teacher, student).p < 1e-4 for student in faithful)
    found = [fidelity(labels, logits_of(teacher), [logits_of(own) for own in seeds]) for seeds in (free, faithful)]
    assert found[1].excess.low > 0
    for name in ("agreement", "repeated", "excess"):
        assert lead(getattr(found[0], name), getattr(found[1], name)).low > 0
    nearer = lead(found[0].divergence, found[1].divergence)
    assert nearer.high < 0 and not nearer.higher_is_better


@pytest.mark.parametrize("classes", [2, 4])
def test_the_influence_of_an_example_is_what_leaving_it_out_takes_away(classes):
    rng = np.random.default_rng(6)
    labels = np.append(rng.integers(classes - 1, size=39), classes - 1)  # one label occurs once
    teacher, student = (errors(rng, labels, [0.5] * classes, classes) for _ in range(2))

    def shares(kept):
        found = shared_mistakes(labels[kept], teacher[kept], student[kept])
        return np.array([found.repeated, found.repeated - found.by_chance]) / found.mistakes

    found = fidelity(labels, logits_of(teacher, classes), [logits_of(student, classes)])
    without = np.stack([shares(np.arange(40) != i) for i in range(40)])
    for place, mean in enumerate((found.repeated, found.excess)):
        assert mean.mean == pytest.approx(shares(np.arange(40))[place])
        assert mean.side.influence[0] == pytest.approx(39 * (without[:, place].mean() - without[:, place]))


def test_a_student_that_always_answers_the_same_repeats_nothing_beyond_chance():
    rng = np.random.default_rng(5)
    labels = rng.integers(2, size=200)
    found = shared_mistakes(labels, errors(rng, labels, [0.1, 0.5], 2), np.zeros(200, int))
    assert found.repeated > found.mistakes / 2
    assert (found.repeated, found.p) == (pytest.approx(found.by_chance), 1.0)


def test_a_teacher_without_mistakes_has_none_to_repeat():
    found = fidelity(LABELS, logits_of(LABELS), [logits_of(STUDENT)])
    shared = found.shared[0]
    assert (shared.mistakes, shared.repeated, shared.by_chance, shared.p) == (0, 0, 0.0, 1.0)
    assert np.isnan([found.excess.mean, found.excess.low]).all()


def test_students_of_a_teacher_of_values_are_compared_by_squared_distance():
    teacher = np.arange(30.0)
    found = distance(teacher, [teacher + 1, teacher + 2])
    assert (found.mean, found.higher_is_better) == (2.5, False)


def test_ten_thousand_classes_take_little_memory():
    rng = np.random.default_rng(7)
    labels = rng.integers(10_000, size=5_000)
    teacher, student = (np.where(rng.random(5_000) < 0.8, labels, rng.integers(10_000, size=5_000)) for _ in range(2))
    assert shared_mistakes(labels, teacher, teacher).p < 1e-6
    assert shared_mistakes(labels, teacher, student).p > 0.001


def test_logits_of_another_shape_are_refused():
    with pytest.raises(UserError, match=r"\(8, 3\)"):
        fidelity(LABELS, logits_of(TEACHER), [logits_of(STUDENT, 3)])
    with pytest.raises(UserError, match="no students"):
        fidelity(LABELS, logits_of(TEACHER), [])


def test_logits_and_values_that_are_none_are_refused():
    broken = logits_of(TEACHER).astype(float)
    broken[1, 0] = np.nan
    for teacher, student in ((broken, logits_of(STUDENT)), (logits_of(TEACHER), broken)):
        with pytest.raises(UserError, match="NaN"):
            fidelity(LABELS, teacher, [student])
    for students in ([[1.0, 2.0]], [[1.0, 2.0, np.nan]], [[1.0, 2.0], [1.0]]):
        with pytest.raises(UserError):
            distance([1.0, 2.0, 3.0], students)


def test_rows_of_one_group_count_as_one():
    rng = np.random.default_rng(3)
    labels = rng.integers(3, size=80)
    teacher, *students = (logits_of(errors(rng, labels, [0.3, 0.4, 0.2], 3), 3) for _ in range(3))
    alone = fidelity(labels, teacher, students)
    each = fidelity(labels, teacher, students, np.arange(80))
    twice = fidelity(*(np.repeat(array, 2, axis=0) for array in (labels, teacher)),
                     [np.repeat(own, 2, axis=0) for own in students], np.repeat(np.arange(80), 2))  # fmt: skip
    for name in ("agreement", "divergence", "repeated", "excess"):
        a, b, c = (getattr(found, name) for found in (alone, each, twice))
        assert (b.mean, b.low, b.high) == pytest.approx((a.mean, a.low, a.high))
        if name != "excess":  # what chance makes of it depends on the number of rows
            assert (c.mean, c.low, c.high) == pytest.approx((a.mean, a.low, a.high), abs=0.01)
    assert np.isnan(twice.shared[0].p) and alone.shared[0].p < 1
