"""Tags: one order, every scheme read as BIO, and spans counted as the field's tool counts them."""

import random
from collections import Counter

import numpy as np
import pytest

from internal_kd.errors import UserError
from internal_kd.statistics import compare, mean_score
from internal_kd.tasks.info import TaskInfo
from internal_kd.tasks.metrics import METRICS, score
from internal_kd.tasks.tags import (
    by_sentence,
    span_counts,
    spans_of,
    tag_names,
    tags_of_spans,
    to_bio,
    window_id,
    word_id,
)

NAMES = tag_names("abc")
OF_TAGS = [name for name, metric in METRICS.items() if metric.kind == "tags"]


def drawn(seed, sentences=40):
    rng = random.Random(seed)
    gold, found = [], []
    for _ in range(sentences):
        gold.append([rng.choice(NAMES) for _ in range(rng.randint(1, 12))])
        found.append([tag if rng.random() < 0.8 else rng.choice(NAMES) for tag in gold[-1]])
    return gold, found


def matrix(tags):
    longest = max(map(len, tags))
    return np.array([[NAMES.index(tag) for tag in one] + [-1] * (longest - len(one)) for one in tags])


# seqeval 1.2.2 of the same draws: f1_score, its macro average, precision, recall, accuracy, and F1 of a, b and c.
SEQEVAL = [
    (1, 0.76923076, 0.76857325, 0.78534031, 0.75376884, 0.80544747, (0.77272727, 0.736, 0.79699248)),
    (2, 0.85714285, 0.85762957, 0.84324324, 0.87150837, 0.87341772, (0.89256198, 0.84955752, 0.83076923)),
    (3, 0.80645161, 0.80774835, 0.80645161, 0.80645161, 0.85384615, (0.83606557, 0.75384615, 0.83333333)),
]  # fmt: skip


@pytest.mark.parametrize(("seed", "micro", "macro", "precision", "recall", "accuracy", "of_types"), SEQEVAL)
def test_span_scores_are_those_of_seqeval(seed, micro, macro, precision, recall, accuracy, of_types):
    labels, predicted = map(matrix, drawn(seed))
    expected = {
        "span_f1": micro, "macro_span_f1": macro, "span_precision": precision, "span_recall": recall,
        "token_accuracy": accuracy,
    }  # fmt: skip
    assert set(expected) == set(OF_TAGS)
    for metric, value in expected.items():
        assert score(labels, predicted, metric, len(NAMES)) == pytest.approx(value, abs=1e-8)
    right, found, gold = span_counts(labels, predicted, len(NAMES)).sum(0).reshape(3, 3)
    assert 2 * right / (found + gold) == pytest.approx(of_types, abs=1e-8)


@pytest.mark.parametrize("metric", OF_TAGS)
def test_a_sentence_is_an_example_of_intervals_and_comparisons(metric):
    labels, predicted = map(matrix, drawn(4))
    statistics = METRICS[metric].statistics(labels, predicted, len(NAMES))
    assert len(statistics) == len(labels)
    for left_out in (0, 7):
        rest = np.delete(labels, left_out, 0), np.delete(predicted, left_out, 0)
        without = METRICS[metric].value(statistics.sum(0) - statistics[left_out])
        assert without == pytest.approx(score(*rest, metric, len(NAMES)))
    seeds = np.stack([predicted, labels, predicted])
    mean = mean_score(labels, seeds, metric, classes=len(NAMES))
    assert mean.examples == len(labels)
    assert mean.low < mean.mean < mean.high
    better = compare(labels, np.stack([predicted] * 3), np.stack([labels] * 3), metric, classes=len(NAMES))
    assert better.difference == pytest.approx(1 - score(labels, predicted, metric, len(NAMES)))
    assert better.p < 0.05


def test_no_entity_at_all_scores_0_as_in_seqeval():
    outside = np.zeros((2, 3), int)
    assert score(outside, outside, "span_f1", 7) == score(outside, outside, "macro_span_f1", 7) == 0
    assert score(outside, outside, "token_accuracy", 7) == 1


def test_what_is_predicted_on_padding_does_not_count():
    labels, predicted = map(matrix, drawn(1))
    padded = np.where(labels < 0, 1, predicted)
    for metric in OF_TAGS:
        assert score(labels, padded, metric, len(NAMES)) == score(labels, predicted, metric, len(NAMES))


def test_classes_in_a_row_are_not_sentences():
    with pytest.raises(UserError, match="sentences"):
        score([0, 1, 2], [0, 1, 2], "span_f1")


@pytest.mark.parametrize(
    ("tags", "bio", "repaired"),
    [
        ("I-a I-a B-a O I-b", "B-a I-a B-a O B-b", {"I- without B-": 2}),  # IOB1
        ("B-a I-a O B-b", "B-a I-a O B-b", {}),
        ("B-a I-a L-a U-a O B-b L-b", "B-a I-a I-a B-a O B-b I-b", {"BILOU letters": 3}),
        ("B-a E-a S-b S-b", "B-a I-a B-b B-b", {"BILOU letters": 3}),
        ("B-a I-b", "B-a B-b", {"I- without B-": 1}),
        ("L-a I-a", "B-a B-a", {"BILOU letters": 1, "I- without B-": 2}),
    ],
)
def test_every_scheme_is_read_as_bio_and_what_was_changed_is_counted(tags, bio, repaired):
    counts = Counter()
    assert to_bio(tags.split(), counts) == bio.split()
    assert +counts == Counter(repaired)


def test_a_tag_of_no_scheme_is_named():
    with pytest.raises(UserError, match="SPECIES"):
        to_bio(["B-SPECIES", "SPECIES"])


def test_spans_and_tags_are_the_same():
    spans = [(0, 2, "a"), (2, 3, "a"), (4, 5, "b")]
    assert spans_of(tags_of_spans(spans, 6)) == spans


def test_tokens_become_a_matrix_of_sentences():
    ids = word_id(np.array([9, 3, 3, 5, 9, window_id(9, 1)]), np.array([0, 0, 1, 0, 1, 2]))
    assert by_sentence(ids, np.arange(6)).tolist() == [[1, 2, -1], [3, -1, -1], [0, 4, 5]]


def test_a_task_of_tags_has_both_tags_of_every_type():
    facts = {"name": "t", "title": "T", "kind": "tags", "metrics": ("span_f1",), "texts": 1, "rows": {}}
    assert TaskInfo(labels=NAMES, **facts).outputs == 7
    with pytest.raises(UserError, match="types sorted"):
        TaskInfo(labels=("O", "B-a"), **facts)
