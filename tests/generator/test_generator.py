"""The built-in data generator: balanced, repeatable, free of repeats and of shortcuts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from internal_kd.errors import UserError
from internal_kd.generator import GRAMMARS, Example, generate

NAMES = tuple(GRAMMARS)

DIGEST_CODE = """
import hashlib, json, sys
from dataclasses import astuple
from internal_kd.generator import generate
splits = generate(sys.argv[1], train=300, dev=60, seed=7)
print(hashlib.sha256(json.dumps({k: [astuple(e) for e in v] for k, v in splits.items()}).encode()).hexdigest())
print(sorted({"pandas", "numpy", "torch", "sklearn"} & set(sys.modules)))
"""

# Golden numbers: when they move, RECIPE must move with them.
DIGESTS = {
    "acceptability": "17efb41fe1976ce4ed47945e33dfb195edd04e1f0423900b0a8b81c58e4918ab",
    "entailment": "c3bdbf520d755102bed0915bce71f013896b00d592e195d295c4c265322bc1c9",
}


def texts(examples: list[Example]) -> list[tuple[str, str | None]]:
    return [(example.text_a, example.text_b) for example in examples]


def tokens(example: Example) -> list[str]:
    sides = (("a", example.text_a), ("b", example.text_b or ""))
    return [f"{side}:{word}" for side, text in sides for word in text.lower().rstrip(".?").split()]


def lengths(example: Example) -> list[int]:
    a, b = example.text_a, example.text_b or ""
    words_a, words_b = a.split(), b.split()
    return [len(a), len(b), len(words_a), len(words_b), len(words_a) - len(words_b)]


def test_label_order_is_that_of_the_glue_tasks_they_imitate() -> None:
    assert GRAMMARS["acceptability"].label_names == ("unacceptable", "acceptable")
    assert GRAMMARS["entailment"].label_names == ("entailment", "not_entailment")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hash_seed", ["0", "1234"])
def test_examples_do_not_depend_on_the_hash_seed_and_move_only_with_the_recipe(name: str, hash_seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIGEST_CODE, name],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    digest, heavy_modules = done.stdout.splitlines()
    assert heavy_modules == "[]"
    assert digest == DIGESTS[name], "the generated examples changed: raise RECIPE and note the new digest"


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_gives_other_examples(name: str) -> None:
    first, second = (generate(name, train=50, dev=10, seed=seed) for seed in (0, 1))
    assert texts(first["train"]) != texts(second["train"])


@pytest.mark.parametrize("name", NAMES)
def test_tens_of_thousands_of_examples_without_a_repeat(name: str) -> None:
    splits = generate(name, train=40_000, dev=4_000, seed=3)
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 40_000, "dev": 4_000}
    everything = texts(splits["train"]) + texts(splits["dev"])
    assert len(set(everything)) == len(everything)
    assert [example.idx for example in splits["dev"]] == list(range(4_000))
    assert all((example.text_b is None) == (name == "acceptability") for example in splits["train"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("train", "dev"), [(1, 1), (2, 1), (37, 23), (1_000, 201)])
def test_any_size_is_balanced_over_labels_and_phenomena(name: str, train: int, dev: int) -> None:
    for examples in generate(name, train=train, dev=dev, seed=0).values():
        labels = Counter(example.label for example in examples)
        assert abs(labels[0] - labels[1]) <= 1
        cells = Counter((example.phenomenon, example.label) for example in examples)
        every_cell = [cells[phenomenon.name, label] for phenomenon in GRAMMARS[name].phenomena for label in (0, 1)]
        assert max(every_cell) - min(every_cell) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_minimal_pairs_differ_and_no_text_has_two_labels(name: str) -> None:
    label_of: dict[tuple[str, str | None], int] = {}
    rng = Random(0)
    for phenomenon in GRAMMARS[name].phenomena:
        for index in rng.sample(range(phenomenon.size), 4_000):
            for label, text in enumerate(phenomenon.twins(index, rng)):
                assert label_of.setdefault(tuple(text), label) == label, (phenomenon.name, text)


@pytest.mark.parametrize(("name", "phenomenon_name"), [("acceptability", "agreement"), ("entailment", "conjunction")])
def test_twins_of_dev_examples_stay_out_of_train(name: str, phenomenon_name: str) -> None:
    phenomenon = next(p for p in GRAMMARS[name].phenomena if p.name == phenomenon_name)
    twin_of: dict[tuple[str, str | None], tuple[str, str | None]] = {}
    for index in range(phenomenon.size):
        first, second = phenomenon.twins(index, Random(0))
        twin_of[tuple(first)], twin_of[tuple(second)] = tuple(second), tuple(first)
    splits = generate(name, train=40_000, dev=4_000, seed=0)
    trained = set(texts(splits["train"]))
    twins = [twin_of[text] for text in texts([e for e in splits["dev"] if e.phenomenon == phenomenon_name])]
    assert len(twins) > 300
    assert not trained.intersection(twins)


@pytest.mark.parametrize("name", NAMES)
def test_words_and_lengths_alone_do_not_tell_the_label(name: str) -> None:
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    splits = generate(name, train=4_000, dev=2_000, seed=0)
    train_labels, dev_labels = ([example.label for example in splits[split]] for split in ("train", "dev"))
    vectorizer = CountVectorizer(analyzer=tokens)
    words = LogisticRegression(max_iter=2_000).fit(vectorizer.fit_transform(splits["train"]), train_labels)
    assert words.score(vectorizer.transform(splits["dev"]), dev_labels) <= 0.62
    length = LogisticRegression(max_iter=2_000).fit([lengths(e) for e in splits["train"]], train_labels)
    assert length.score([lengths(e) for e in splits["dev"]], dev_labels) <= 0.56
    curved = GradientBoostingClassifier(n_estimators=30, random_state=0)
    curved.fit([lengths(e) for e in splits["train"]], train_labels)
    assert curved.score([lengths(e) for e in splits["dev"]], dev_labels) <= 0.56


def test_unknown_grammar_and_impossible_sizes_are_refused_with_a_way_out() -> None:
    with pytest.raises(UserError, match="did you mean 'entailment'"):
        generate("entailmnt", train=10, dev=10, seed=0)
    with pytest.raises(UserError, match=r"dev size 0 .* at least 1"):
        generate("entailment", train=10, dev=0, seed=0)
    largest = GRAMMARS["acceptability"].capacity
    with pytest.raises(UserError, match=rf"{10**12 + 5} .* {largest}"):
        generate("acceptability", train=10**12, dev=5, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_chosen_phenomena_are_the_only_ones_in_whatever_order_they_are_named(name: str) -> None:
    two = [phenomenon.name for phenomenon in GRAMMARS[name].phenomena][1:3]
    some = generate(name, train=40, dev=8, seed=3, phenomena=two)
    assert {example.phenomenon for split in some.values() for example in split} == set(two)
    assert some == generate(name, train=40, dev=8, seed=3, phenomena=two[::-1])
    assert sum(example.label for example in some["train"]) == 20


def test_an_unknown_phenomenon_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown phenomenon 'agrement' of acceptability"):
        generate("acceptability", train=10, dev=2, seed=0, phenomena=["agrement"])
