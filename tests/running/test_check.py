"""A study is looked at before anything is trained: what is there, what is suspicious, what keeps it from running."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import tiny_study
from internal_kd.command_line import main
from internal_kd.errors import UserError
from internal_kd.params import merge
from internal_kd.plan.runs import Run
from internal_kd.plan.store import problem_with
from internal_kd.running import check as checking
from internal_kd.running.check import check, refuse_answers, warnings_of

WORDS = "every teacher praises the pupil and the pupil sees every dog "


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    tiny_study.make_encoder(folder)
    return folder


def make_project(project: Path, encoder: Path, **changes: Any) -> None:
    """A study of 40 tickets, 10 of which are long and 5 of which are in the dev file too."""
    lines = [f"{WORDS * (4 if n < 10 else 1)}{n},{'ab'[n % 2]}" for n in range(60)]
    (project / "train.csv").write_text("\n".join(["text,label", *lines[:40]]))
    (project / "dev.csv").write_text("\n".join(["text,label", *lines[35:]]))
    tickets = {"source": "files", "train": "train.csv", "dev": "dev.csv", "text": ["text"]}
    values: dict[str, Any] = {"study": {"tasks": ["tickets"]}, "tasks": {"tickets": tickets}}
    values["encoder"] = {"path": str(encoder)}
    tiny_study.make_project(project, **tiny_study.merge(values, changes))


def test_facts_and_warnings_of_a_study_that_was_never_started(project: Path, encoder: Path) -> None:
    make_project(project, encoder)
    study = tiny_study.plan_here()
    assert warnings_of(study) == []
    found = check(study)
    text = "\n".join(found.facts)
    assert "8 runs, 8 to train" in text and "40 train examples (a 50%, b 50%)" in text
    assert "max_length 24, 10 of 40 examples cut" in text and "4 layers of width 32" in text and "cores" in text
    assert found.errors == [] and all(line.startswith("tasks.tickets: ") for line in found.warnings)
    joined = "\n".join(found.warnings)
    assert "5 of 25 dev examples also in train" in joined and "cuts 25% of the train examples" in joined
    assert "25 dev examples: one of them" in joined
    assert warnings_of(study) == found.warnings, "what a run prints, once they are known"
    assert not any(problem_with(artefact) is None for artefact in study.artefacts.values() if isinstance(artefact, Run))


def test_a_file_of_answers_is_matched_with_the_texts(project: Path, encoder: Path) -> None:
    answers = [{"text": f"{WORDS * 4}{n}", "label": "ab"[n % 2]} for n in range(10)] + [{"text": "other", "label": "a"}]
    (project / "llm.jsonl").write_text("\n".join(map(json.dumps, answers)))
    make_project(project, encoder, study={"methods": ["soft"]}, methods={"soft": {"teacher": {"answers": "llm.jsonl"}}})
    found = check(tiny_study.plan_here())
    assert any("10 of 40 examples covered" in line for line in found.facts)
    assert any("without an answer, not trained on: 30" in line for line in found.warnings)
    assert any("about no example of the task: 1" in line for line in found.warnings)


def test_what_is_wrong_is_an_error_and_the_rest_is_looked_at_all_the_same(
    project: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {"source": "files", "train": "bad.csv", "dev": "dev.csv", "text": ["text"]}
    make_project(project, encoder, study={"tasks": ["tickets", "bad"]}, tasks={"bad": bad})
    (project / "bad.csv").write_text("text;label\na;b\n")
    assert main(["check", "--overlay", tiny_study.OVERLAY]) == 1
    printed = capsys.readouterr().out
    assert printed.count("error: ") == 1 and "separated by semicolons" in printed and "40 train examples" in printed


def test_what_is_on_the_hub_is_named_and_not_downloaded(project: Path) -> None:
    hub = {"name": "far", "source": "hub", "id": "somebody/model", "revision": "0" * 40, "layers": 4}
    tiny_study.make_project(project, encoder=hub)
    found = check(tiny_study.plan_here())
    assert any("to be downloaded: somebody/model" in line for line in found.facts) and found.errors == []


def test_tags_and_their_windows(project: Path, encoder: Path) -> None:
    for split, count in (("train", 4), ("dev", 2)):
        words = [f"{word} {'B-x' if n % 7 == 0 else 'O'}" for n, word in enumerate((WORDS * 4).split())]
        (project / f"{split}.conll").write_text("\n\n".join([f"{split} O\n" + "\n".join(words)] * count) + "\n")
    tags = {"source": "files", "kind": "tags", "train": "train.conll", "dev": "dev.conll"}
    tiny_study.make_project(project, study={"tasks": ["tags"]}, tasks={"tags": tags}, encoder={"path": str(encoder)})
    found = check(tiny_study.plan_here())
    assert found.errors == [] and any("4 of 4 sentences in several windows" in line for line in found.facts)


def test_a_machine_with_too_little_memory_or_disk_is_named(
    project: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(project, encoder)
    monkeypatch.setattr(checking, "TRAINING", 10**9)
    monkeypatch.setattr(checking, "available_gpus", list)
    assert any("of memory to train" in line for line in check(tiny_study.plan_here()).warnings)


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"idx": 0, "probabilities": {"acceptable": math.nan, "unacceptable": 0.5}}, "nan"),
        ({"idx": 0, "probabilities": {"acceptable": 0.4, "unacceptable": 0.3}}, "0.7"),
        ({"idx": 0, "label": "great"}, "'great'"),
        ({"idx": 1, "label": "unacceptable"}, "id 1 occurs twice"),
    ],
)
def test_a_file_of_answers_is_refused_before_its_task_is_fetched(tmp_path, monkeypatch, row, word) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_study.make_project(tmp_path)
    Path("llm.jsonl").write_text("\n".join(map(json.dumps, [{"idx": 1, "label": "acceptable"}, row])))
    study = tiny_study.planned(**merge(tiny_study.VALUES, {"methods": {"soft": {"teacher": {"answers": "llm.jsonl"}}}}))
    with pytest.raises(UserError, match=r"llm\.jsonl") as refused:
        refuse_answers(study)
    assert word in str(refused.value)
