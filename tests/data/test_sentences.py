"""Sentences with tags: every form holds the same, repairs have names and are counted, and nonsense is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_plans import planned_data
from internal_kd.data.examples import check_task
from internal_kd.data.own_tags import fetch_own_tags
from internal_kd.data.repairs import ALWAYS, RULES, Repairs
from internal_kd.data.sentences import read_sentences
from internal_kd.errors import UserError

TYPES = ["HABITAT", "SPECIES"]
TOKENS = [["Alabama", "waterdog", "lives", "in", "rivers"], ["Newts", "swim"]]
TAGS = [["B-SPECIES", "I-SPECIES", "O", "O", "B-HABITAT"], ["B-SPECIES", "O"]]
TABLE = "Alabama\tB-SPECIES\nwaterdog\tI-SPECIES\nlives\tO\nin\tO\nrivers\tB-HABITAT\n\t\nNewts\tB-SPECIES\nswim\tO\n"


def rows(*objects: dict[str, Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in objects)


SPANS = rows(
    {
        "text": "Alabama waterdog lives in rivers",
        "label": [{"start": 0, "end": 16, "type": "SPECIES"}, {"start": 26, "end": 32, "label": "HABITAT"}],
    },
    {"text": "Newts swim", "label": [{"start": 0, "end": 5, "type": "SPECIES"}]},
)
ENTITIES = rows(
    {
        "text": "Alabama waterdog lives in rivers",
        "label": [{"text": "rivers", "type": "HABITAT"}, {"text": "Alabama waterdog", "type": "SPECIES"}],
    },
    {"text": "Newts swim", "label": [{"text": "Newts", "type": "SPECIES"}]},
)
LISTS = rows(*({"tokens": a, "label": b} for a, b in zip(TOKENS, TAGS, strict=True)))
FORMS = {
    "words.conll": (TABLE, "text"),
    "columns.conll": (
        "-DOCSTART- -X- O\n\n" + "".join(f"{a} NN {b}\n" for a, b in zip(TOKENS[0], TAGS[0], strict=True))
        + "\n \nNewts NN B-SPECIES\nswim VB O",
        "0",
    ),
    "bilou.bio": (TABLE.replace("I-SPECIES", "L-SPECIES").replace("B-HABITAT", "U-HABITAT"), "text"),
    "iob1.iob": (TABLE.replace("B-", "I-"), "text"),
    "lists.jsonl": (LISTS, "tokens"),
    "spans.jsonl": (SPANS, "text"),
    "entities.jsonl": (ENTITIES, "text"),
}  # fmt: skip


def read(folder: Path, name: str, content: str, text: str = "text", asked: bool = True, **how: Any) -> Any:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    repairs = Repairs(path, asked=asked)
    how = {"types": TYPES, **how}
    return read_sentences(path, text, "label", repairs=repairs, **how), repairs


@pytest.mark.parametrize("name", FORMS)
def test_every_form_holds_the_same_sentences(tmp_path: Path, name: str) -> None:
    content, text = FORMS[name]
    sentences, repairs = read(tmp_path, name, content, text, asked=False)
    assert [one.tokens for one in sentences] == TOKENS
    assert [one.tags for one in sentences] == TAGS
    assert [one.text for one in sentences] == [" ".join(tokens) for tokens in TOKENS]
    assert set(repairs.counts) <= ALWAYS


def test_parquet_with_numbers_is_read_by_the_names_beside_its_schema(tmp_path: Path) -> None:
    names = ["O", "B-SPECIES", "I-SPECIES", "B-HABITAT", "I-HABITAT"]
    numbers = [[names.index(tag) for tag in one] for one in TAGS]
    feature = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"}
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    table = pa.table({"tokens": TOKENS, "label": numbers}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "hub.parquet")
    repairs = Repairs(tmp_path / "hub.parquet", asked=False)
    found = read_sentences(tmp_path / "hub.parquet", "tokens", "label", types=None, repairs=repairs)
    assert [one.tags for one in found] == TAGS
    pq.write_table(table.replace_schema_metadata({}), tmp_path / "bare.parquet")
    with pytest.raises(UserError, match="number"):
        read_sentences(tmp_path / "bare.parquet", "tokens", "label", types=None, repairs=repairs)


# What a language model wrote, the rule that repairs it, and what the first sentence's tags are then.
TABLES = [
    ("Alabama SPECIES\nwaterdog SPECIES\nlives O", "type without B- or I-", 2, "B-SPECIES I-SPECIES O"),
    ("Alabama  B-SPECIES\nwaterdog \t (O)", "brackets around a tag", 1, "B-SPECIES O"),
    ("Newts B-SPECIES\nswim", "no tag", 1, "B-SPECIES O"),
    ("Rio de Janeiro\tB-HABITAT\nhas O", "several words in a line", 1, "B-HABITAT I-HABITAT I-HABITAT O"),
    ("Newts B-SPECIES\nwhereO", "tag glued to the word", 1, "B-SPECIES O"),
    ("TWO: List of endangered birds\nNewts B-SPECIES", "heading", 1, "B-SPECIES"),
    ("Newts B-SPECIES\nin I-HAB", "type cut short", 1, "B-SPECIES B-HABITAT"),
    ("Newts B-SPECIES\nlive B-VERB", "unknown type", 1, "B-SPECIES O"),
]


@pytest.mark.parametrize(("table", "rule", "count", "tags"), TABLES)
def test_what_a_model_writes_is_repaired_by_a_named_rule_or_refused(
    tmp_path: Path, table: str, rule: str, count: int, tags: str
) -> None:
    sentences, repairs = read(tmp_path, "raw.txt", table)
    assert " ".join(sentences[0].tags) == tags
    assert repairs.counts[rule] == count and len(repairs.examples[rule]) == count
    with pytest.raises(UserError, match="line"):
        read(tmp_path, "raw.txt", table, asked=False)


def _span(start: int, end: int, name: str) -> dict[str, Any]:
    return {"start": start, "end": end, "type": name}


def test_a_word_of_gold_data_stays_as_it_is(tmp_path: Path) -> None:
    table = "\u200bNewts\u200b B-SPECIES"
    (kept,), _ = read(tmp_path, "gold.conll", table, "0", asked=False)
    (clean,), repairs = read(tmp_path, "raw.txt", table)
    assert kept.tokens == ["\u200bNewts\u200b"] and clean.tokens == ["Newts"]
    assert repairs.counts == {"zero-width character": 1}
    for gap in (" ", "\t"):  # a space that does not break is part of a word, a column ends at a plain one
        (kept,), _ = read(tmp_path, "gold.conll", f"New\u00a0ts{gap}B-SPECIES", "0", asked=False)
        assert (kept.tokens, kept.tags) == (["New\u00a0ts"], ["B-SPECIES"])


ROWS = [
    ({"tokens": ["a", "b"], "label": ["O"]}, "tokens", "tokens and tags differ in number"),
    ({"tokens": [], "label": []}, "tokens", "sentence without tokens"),
    ({"text": "Newts", "label": [{"start": 0, "end": 9, "type": "SPECIES"}]}, "text", "span leaves the text"),
    ({"text": "Newts", "label": [{"text": "Frogs", "type": "SPECIES"}]}, "text", "entity not in the text"),
    ({"text": "Newts", "label": [{"text": "newts", "type": "SPECIES"}]}, "text", "entity in other capitals"),
    ({"text": "Newts", "label": [{"text": "Newts", "type": "ANIMAL"}]}, "text", "unknown type"),
    ({"text": "A b c", "label": [_span(0, 3, "SPECIES"), _span(2, 3, "HABITAT")]}, "text", "spans overlap"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "text", "rule"), ROWS)
def test_rows_that_cannot_be_right_are_counted_by_their_rule(
    tmp_path: Path, row: dict[str, Any], text: str, rule: str
) -> None:
    _, repairs = read(tmp_path, "rows.jsonl", rows(row), text)
    assert repairs.counts == {rule: 1} and rule in RULES
    if rule not in ALWAYS:
        with pytest.raises(UserError, match=rule):
            read(tmp_path, "rows.jsonl", rows(row), text, asked=False)


def test_an_entity_is_marked_wherever_it_stands_or_once(tmp_path: Path) -> None:
    content = rows({"text": "Newts eat newtsy Newts.", "label": [{"text": "Newts", "type": "SPECIES"}]})
    every, _ = read(tmp_path, "a.jsonl", content)
    first, _ = read(tmp_path, "a.jsonl", content, occurrences="first")
    assert every[0].tags == ["B-SPECIES", "O", "O", "B-SPECIES", "O"]
    assert first[0].tags == ["B-SPECIES", "O", "O", "O", "O"]


@pytest.mark.parametrize("text", ["Straße in Berlin", "ß ß ß in Berlin or", "İİ Berlin", "in BERLIN ß"])
def test_an_entity_in_other_capitals_is_found_where_it_stands(tmp_path: Path, text: str) -> None:
    (sentence,), _ = read(tmp_path, "a.jsonl", rows({"text": text, "label": [{"text": "berlin", "type": "HABITAT"}]}))
    named = dict(zip(sentence.tokens, sentence.tags, strict=True))
    assert {word for word, tag in named.items() if tag != "O"} == {word for word in named if word.lower() == "berlin"}


def test_a_word_is_cut_where_an_entity_ends(tmp_path: Path) -> None:
    content = rows({"text": "Toads'", "label": [{"start": 0, "end": 4, "type": "SPECIES"}]})
    (sentence,), _ = read(tmp_path, "a.jsonl", content)
    assert (sentence.tokens, sentence.tags) == (["Toad", "s", "'"], ["B-SPECIES", "O", "O"])


@pytest.mark.parametrize(
    ("content", "text", "names"),
    [
        (rows({"text": "Newts", "label": "SPECIES"}), "text", "list of spans"),
        (rows({"tokens": ["a"], "label": "x"}), "tokens", "kind: classes"),
        (rows({"tokens": ["a"], "label": [1]}), "tokens", "number"),
        (rows({"tokens": ["a"], "tags": ["O"]}), "tokens", "no column 'label'"),
        (rows({"text": "Newts", "label": [{"text": "Newts"}]}), "text", "no type"),
        (rows({"text": "Newts", "label": [{"text": "Newts", "type": ["a"]}]}), "text", "a list"),
        (rows({"text": "Newts", "label": [{"text": "Newts", "type": "\ud800"}]}), "text", "half a character"),
        (rows({"tokens": ["a"], "label": ["B-\ud800"]}), "tokens", "half a character"),
        ("", "tokens", "is empty"),
    ],
)
def test_what_is_not_tags_is_refused_whatever_is_asked(tmp_path: Path, content: str, text: str, names: str) -> None:
    with pytest.raises(UserError, match=names):
        read(tmp_path, "a.jsonl", content, text)


@pytest.mark.parametrize(
    ("name", "table", "text", "labelled", "names"),
    [
        ("a.tsv", f"token\ttag\n{TABLE}", "0", True, "line 1 is a header"),
        ("a.tsv", f"token\ttag\n{TABLE}", "text", True, "line 1 is a header"),
        ("a.conll", TABLE.replace("\n", "\r"), "0", True, "carriage return alone"),
        ("a.conll", TABLE.replace("Newts", "New\rts"), "0", True, "line 7 has a carriage return"),
        ("a.conll", TABLE, "text", False, r"tags.*`text: \[0\]`"),
        ("a.txt", f"# from = a book\n{TABLE}rare\n", "text", False, r"tags.*`text: \[0\]`"),
    ],
)
def test_a_table_that_would_be_misread_is_refused_whatever_is_asked(
    tmp_path: Path, name: str, table: str, text: str, labelled: bool, names: str
) -> None:
    (tmp_path / name).write_bytes(table.encode())
    with pytest.raises(UserError, match=names):
        read_sentences(tmp_path / name, text, "label", types=None, repairs=Repairs(tmp_path / name), labelled=labelled)


def test_words_without_tags_are_read_one_or_many_to_a_line(tmp_path: Path) -> None:
    for content in ("Newts\nswim\n", "Newts swim\n", "token\nNewts\nwith\nvitamin B-12\n"):
        sentences, _ = read(tmp_path, "a.txt", content, labelled=False)
        assert [(one.text, one.tags) for one in sentences] == [(" ".join(content.split()), None)]


def entry(**changes: Any) -> dict[str, Any]:
    return {"source": "files", "kind": "tags", "train": "train.conll", "dev": "dev.conll", "text": [0], **changes}


def fetched(folder: Path, monkeypatch: pytest.MonkeyPatch, train: str = TABLE, dev: str = TABLE, **changes: Any) -> Any:
    monkeypatch.chdir(folder)
    Path("train.conll").write_text(train)
    Path("dev.conll").write_text(dev)
    task = fetch_own_tags(planned_data(entry(**changes)))
    check_task(task)
    return task


def test_a_task_has_its_sentences_in_order_with_numbers_of_tags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = fetched(tmp_path, monkeypatch)
    assert task.info.labels == ("O", "B-HABITAT", "I-HABITAT", "B-SPECIES", "I-SPECIES")
    assert task.info.metrics[0] == "span_f1" and task.info.rows == {"train": 2, "dev": 2}
    table = task.splits["train"].table
    assert table["label"].to_pylist() == [[3, 4, 0, 0, 1], [3, 0]] and table["tokens"].to_pylist() == TOKENS


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"dev": "Newts O\n"}, "dev has no entity"),
        ({"train": "Newts O\n"}, "train has no entity"),
        ({"dev": "Newts B-ANIMAL\n"}, "'ANIMAL'"),
        ({"train": "Newts SPECIES\n"}, "cleaned"),
        ({"train": "\n"}, "no sentence"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], names: str
) -> None:
    files = {key: value for key, value in changes.items() if key in ("train", "dev")}
    with pytest.raises(UserError, match=names):
        fetched(tmp_path, monkeypatch, **files)


def test_a_type_of_dev_alone_is_accepted_once_it_is_listed_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = fetched(tmp_path, monkeypatch, dev="Oaks B-PLANT\n", labels=["HABITAT", "SPECIES", "PLANT"])
    assert any("'PLANT'" in line for line in task.warnings)


def test_a_dev_set_taken_out_keeps_what_is_about_one_species_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    about = [f"Frog{number % 7} B-SPECIES\n(rana{number} I-SPECIES\nlives{number} O\n" for number in range(21)]
    Path("all.conll").write_text("\n".join(about))
    given = entry(train="all.conll", split={"dev": 0.3, "by": "first_entity", "seed": 1})
    del given["dev"]
    task = fetch_own_tags(planned_data(given))
    parts = {
        split: {tokens[0] for tokens in examples.table["tokens"].to_pylist()} for split, examples in task.splits.items()
    }
    assert not parts["train"] & parts["dev"] and len(parts["dev"]) == 3
    assert task.info.rows == {"train": 12, "dev": 9}
    Path("all.conll").write_text("\n".join(about[::7]))  # of one species
    with pytest.raises(UserError, match=r"tasks\.mine\.split.*`by: text`"):
        fetch_own_tags(planned_data(given))
