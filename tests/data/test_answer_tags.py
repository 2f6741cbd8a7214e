"""An LLM's tags as answers: every form trains the same, votes become shares, and what does not fit is counted."""

from __future__ import annotations

import json
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_plans import planned_data
from internal_kd.checksums import sha256_file
from internal_kd.data.answer_tags import TaggedTask, align_tags, read_tagged_answers
from internal_kd.data.answers_check import check_answers
from internal_kd.data.answers_file import answers_from_file, read_answers
from internal_kd.data.answers_match import FileAnswers
from internal_kd.data.examples import TaskOnDisk, read_task
from internal_kd.data.llm import read_responses, write_requests
from internal_kd.data.repairs import Repairs
from internal_kd.errors import UserError
from internal_kd.steps.fetch import fetch_task
from internal_kd.tasks.tags import sentence_and_word, tag_names

LABELS = tag_names(["HABITAT", "SPECIES"])
TOKENS = [["Alabama", "waterdog", "lives", "in", "rivers", "."], ["Newts", "swim", "."]]
TAGS = [["B-SPECIES", "I-SPECIES", "O", "O", "B-HABITAT", "O"], ["B-SPECIES", "O", "O"]]
TASK = TaggedTask([4, 9], TOKENS, LABELS)
ENTITIES = [
    [{"text": "Alabama waterdog", "type": "SPECIES"}, {"text": "rivers", "type": "HABITAT"}],
    [{"text": "Newts", "type": "species"}],
]


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


FORMS = {
    "raw.txt": "Alabama B-SPECIES\nwaterdog SPECIES\nlives O\nin (O)\nrivers\tB-HABITAT\n. O\n\n"
    "Newts SPECIES\nswim\n. O\n",
    "lists.jsonl": lines(*({"tokens": a, "tags": b} for a, b in zip(TOKENS, TAGS, strict=True))),
    "entities.jsonl": lines(
        *({"text": " ".join(a), "entities": b} for a, b in zip(TOKENS, ENTITIES, strict=True))
    ),
    "spaced.jsonl": lines(
        {"text": "Alabama waterdog lives in rivers.", "entities": ENTITIES[0]},
        {"text": "Newts swim.", "entities": ENTITIES[1]},
    ),
    "spans.jsonl": lines(
        {
            "text": "Alabama waterdog lives in rivers.",
            "spans": [{"start": 0, "end": 16, "label": "SPECIES"}, {"start": 26, "end": 32, "label": "HABITAT"}],
        },
        {"text": "Newts swim.", "spans": [{"start": 0, "end": 5, "label": "SPECIES"}]},
    ),
}  # fmt: skip


def aligned(folder: Path, name: str, content: str) -> tuple[FileAnswers, Repairs]:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    repairs = Repairs(path)
    return align_tags(path, read_tagged_answers(path, LABELS, repairs, "all"), TASK, repairs), repairs


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_answers(tmp_path: Path, name: str) -> None:
    found, _ = aligned(tmp_path, name, FORMS[name])
    sentence, word = sentence_and_word(found.idx)
    assert sentence.tolist() == [4] * 6 + [9] * 3 and word.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert [LABELS[best] for best in found.logits.argmax(1)] == [tag for one in TAGS for tag in one]
    np.testing.assert_allclose(np.exp(found.logits).max(1), 0.9, rtol=1e-5)
    np.testing.assert_allclose(np.exp(found.logits).sum(1), 1, rtol=1e-5)
    assert found.report.covered == 2 and not found.report.contradicting


def test_several_answers_are_votes(tmp_path: Path) -> None:
    rows = [{"tokens": TOKENS[1], "tags": tags.split()} for tags in ("B-SPECIES O O", "B-SPECIES O O", "O O O")]
    found, _ = aligned(tmp_path, "votes.jsonl", lines(*rows))
    shares = np.exp(found.logits[0])
    assert shares[LABELS.index("B-SPECIES")] == pytest.approx(0.9 * 2 / 3 + 0.025 / 3, rel=1e-4)
    assert shares[0] == pytest.approx(0.9 / 3 + 0.025 * 2 / 3, rel=1e-4)
    assert found.report.contradicting == 1 and found.report.repeated == 1


def numbers(form: str, **changes: Any) -> dict[str, Any]:
    given = {tag: [0.1, 0.1, 0.1] for tag in LABELS} | {"B-SPECIES": [0.6, 0.1, 0.1], "O": [0.1, 0.6, 0.6]} | changes
    return {"tokens": TOKENS[1], form: {tag: value for tag, value in given.items() if value is not None}}


def test_numbers_are_taken_as_they_are_and_averaged_as_votes(tmp_path: Path) -> None:
    given, _ = aligned(tmp_path, "logits.jsonl", lines(numbers("logits")))
    assert given.logits[0].tolist() == pytest.approx([0.1, 0.1, 0.1, 0.6, 0.1])
    assert given.report.forms == {"logits": 1}
    shares, _ = aligned(tmp_path, "shares.jsonl", lines(numbers("probabilities")))
    assert np.exp(shares.logits[1]).tolist() == pytest.approx([0.6, 0.1, 0.1, 0.1, 0.1])
    sure = numbers("probabilities", **{"B-HABITAT": None, "B-SPECIES": [0.7, 0.2, 0.2]})
    both, _ = aligned(tmp_path, "both.jsonl", lines(sure, numbers("probabilities")))
    assert np.exp(both.logits[0]).tolist() == pytest.approx([0.1, 0.05, 0.1, 0.65, 0.1], rel=1e-4)
    assert both.report.contradicting == 1


def test_numbers_need_the_words_of_the_task(tmp_path: Path) -> None:
    others = {"tokens": ["Newts", "swim."], "logits": {"O": [1.0, 1.0], "B-SPECIES": [2.0, 0.0]}}
    found, repairs = aligned(tmp_path, "a.jsonl", lines(others, numbers("logits") | {"tokens": TOKENS[1]}))
    assert repairs.counts == {"numbers for other words": 1} and found.report.covered == 1


@pytest.mark.parametrize(
    ("row", "names"),
    [
        (numbers("logits", O=[1.0]), "3 numbers"),
        (numbers("logits", O=["a", "b", "c"]), "finite number"),
        (numbers("logits", O=[[1], 1, 1]), "finite number"),
        (numbers("probabilities", O=[1.0, 1.0, 1.0]), "sum to 1.9"),
        (numbers("logits", **{"B-SPECEIS": [1, 1, 1]}), "B-SPECIES"),
        (numbers("logits", O=[1e39, 1, 1]), "finite number"),
        ({"tokens": TOKENS[1], "logits": [1, 2]}, "an object of lists"),
        (numbers("logits") | {"tokens": 5}, "a list of tokens"),
        (numbers("logits") | {"tokens": "Newts"}, "a list of tokens"),
    ],
)
def test_numbers_that_cannot_be_used_are_refused(tmp_path: Path, row: dict[str, Any], names: str) -> None:
    with pytest.raises(UserError, match=names):
        aligned(tmp_path, "a.jsonl", lines(row))


def test_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    rows = [
        {"text": "Newts swim.", "entities": [{"text": "Newt", "type": "SPECIES"}, {"text": "New", "type": "SPECIES"}]},
        {"text": "Frogs swim.", "entities": []},
    ]
    found, repairs = aligned(tmp_path, "answers.jsonl", lines(*rows))
    assert repairs.counts == {"entity not in the text": 2}
    assert (found.report.covered, found.report.unknown) == (1, 1) and found.report.unnamed == ("HABITAT", "SPECIES")
    assert any("entity not in the text: 2" in line for line in found.report.lines())


def test_an_entity_that_ends_inside_a_word_of_the_task_takes_the_word(tmp_path: Path) -> None:
    found, repairs = aligned(
        tmp_path, "a.jsonl", lines({"tokens": ["New", "ts", "swim", "."], "tags": ["B-SPECIES", "O", "O", "O"]})
    )
    assert repairs.counts == {"span ends inside a word": 1} and LABELS[found.logits[0].argmax()] == "B-SPECIES"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (lines({"text": "Newts swim.", "label": "SPECIES"}), "list of spans"),
        (lines({"text": "Frogs swim.", "entities": []}), "none of its 1 sentences"),
        (lines({"question": "Newts"}), "'tokens' and 'tags'"),
    ],
)
def test_answers_that_are_of_another_kind_or_task_are_refused(tmp_path: Path, content: str, names: str) -> None:
    with pytest.raises(UserError, match=names):
        aligned(tmp_path, "a.jsonl", content)


LABELLED = [
    ("yes", "yes", None),
    (" YES! ", "yes", "label in other spelling"),
    ("**not_sure**", "not sure", "label in other spelling"),
    ("The answer is yes.", "yes", "label in a sentence"),
    ("I am not sure about it", "not sure", "label in a sentence"),
]


@pytest.mark.parametrize(("said", "label", "rule"), LABELLED)
def test_a_class_is_read_in_other_spellings_and_out_of_a_sentence(
    tmp_path: Path, said: str, label: str, rule: str | None
) -> None:
    path, labels = tmp_path / "a.jsonl", ("yes", "no", "not sure", "sure")
    path.write_text(lines({"text": "fine", "label": said}))
    rows = read_answers(path, "classes", labels, [("text",)])
    assert labels[rows.logits[0].argmax()] == label
    assert [line.partition(":")[0] for line in rows.repairs] == ([rule] if rule else [])


def test_a_label_that_names_none_or_several_classes_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    said = ["yes", "no", "no", "yes or no", "perhaps"]
    path.write_text(lines(*({"text": f"t{n}", "label": label} for n, label in enumerate(said))))
    rows = read_answers(path, "classes", ("yes", "no"), [("text",)])
    assert len(rows.keys) == 3 and rows.repairs[0].startswith("no class named: 2")


def task(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, TaskOnDisk]:
    monkeypatch.chdir(folder)
    table = "\n\n".join(
        "\n".join(f"{a}\t{b}" for a, b in zip(*one, strict=True)) for one in zip(TOKENS, TAGS, strict=True)
    )
    Path("train.conll").write_text(table)
    Path("more.jsonl").write_text(lines({"text": "Newts live in ponds."}, {"text": "Frogs jump."}))
    given = {
        "source": "files",
        "kind": "tags",
        "train": "train.conll",
        "dev": "train.conll",
        "unlabelled": "more.jsonl",
    }
    data = planned_data(given)
    fetch_task(data)
    return data, read_task(data)


class Server(BaseHTTPRequestHandler):
    """A language model that knows newts, and sometimes chats."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][0]["content"].rpartition("Text:\n")[2]
        found = [{"text": "Newts", "type": "SPECIES"}] if "Newts" in text else []
        said = f"Sure!\n```json\n{json.dumps({'entities': found})}\n```" if found else "There are none."
        answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": said}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: Any) -> None:
        pass


def test_texts_go_to_a_server_and_come_back_as_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, fetched = task(tmp_path, monkeypatch)
    assert write_requests(fetched, "unlabelled", Path("requests.jsonl"), "m", votes=2) == 4
    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with Path("responses.jsonl").open("w") as file:
            for request in map(json.loads, Path("requests.jsonl").read_text().splitlines()):
                posted = urllib.request.Request(
                    f"http://127.0.0.1:{server.server_port}{request['url']}", json.dumps(request["body"]).encode()
                )
                with urllib.request.urlopen(posted) as reply:
                    answer = {"custom_id": request["custom_id"], "response": {"body": json.load(reply)}}
                file.write(json.dumps(answer) + "\n")
    finally:
        server.shutdown()
    count, repairs = read_responses(Path("responses.jsonl"), fetched, Path("llm.jsonl"))
    assert count == 2 and repairs.counts == {"JSON in a code block": 2, "not JSON": 2}
    found = answers_from_file(Path("llm.jsonl"), data, sha256_file(Path("llm.jsonl")))
    best = [fetched.info.labels[number] for number in found.logits.argmax(1)]
    assert best == ["B-SPECIES", "O", "O", "O", "O"]
    said = "\n".join(check_answers(Path("llm.jsonl"), data, fetched))
    assert "1 of 4 examples covered" in said and "SPECIES: 2 entities (100.0 %)" in said and "agree for 100.0 %" in said


def test_a_prompt_of_ones_own_needs_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, fetched = task(tmp_path, monkeypatch)
    write_requests(fetched, "train", Path("r.jsonl"), "m", template="{labels}: {text}")
    first = json.loads(Path("r.jsonl").read_text().splitlines()[0])
    assert first["body"]["messages"][0]["content"] == "HABITAT, SPECIES: Alabama waterdog lives in rivers ."
    for template in ("{labels}", "{text} {other}"):
        with pytest.raises(UserError, match="prompt"):
            write_requests(fetched, "train", Path("r.jsonl"), "m", template=template)


def test_what_would_write_nothing_or_under_a_wrong_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fetched = task(tmp_path, monkeypatch)
    with pytest.raises(UserError, match="votes: 0"):
        write_requests(fetched, "train", Path("r.jsonl"), "m", votes=0)
    Path("responses.jsonl").write_text(lines({"custom_id": "train-0-0", "response": {"status_code": 500, "body": {}}}))
    with pytest.raises(UserError, match=r"o\.csv.*\.jsonl"):
        read_responses(Path("responses.jsonl"), fetched, Path("o.csv"))
    count, repairs = read_responses(Path("responses.jsonl"), fetched, Path("o.jsonl"))
    assert count == 0 and repairs.counts == {"no answer of the server": 1}
    assert not Path("r.jsonl").exists() and not Path("o.csv").exists()
