"""Parameters as files: read strictly before Snakemake does, merged for DVC, described for editors."""

import json
from pathlib import Path

import pytest

from internal_kd.errors import UserError
from internal_kd.params import load_params, parse_params
from internal_kd.plan.study import Study
from internal_kd.running.parameter_files import SCHEMA_FILE, check_config_files, merged_text, schema_text
from tiny_study import OVERLAY, ROOT

TEMPLATES = [
    "__use_yte__: true\nstudy:\n  name: ?open('pwned', 'w')\n",
    '__definitions__: [\'open("pwned", "w")\']\n',
    '{"__use_yte__": true}',
    "a: &a {__use_yte__: true}\n<<: *a\n",
]


def test_the_merged_file_means_the_same_study(study: Study) -> None:
    Path("merged.yaml").write_text(merged_text("params.yaml", [OVERLAY]))
    assert load_params("merged.yaml") == load_params("params.yaml", [OVERLAY])


def test_files_that_describe_no_study_together_are_refused(study: Study) -> None:
    Path("wrong.yaml").write_text("study: {sede: 1}\n")
    with pytest.raises(UserError, match=r"params.yaml \+ wrong.yaml: .*'sede'"):
        merged_text("params.yaml", ["wrong.yaml"])


def test_the_schema_in_the_repository_is_that_of_the_program() -> None:
    assert (ROOT / SCHEMA_FILE).read_text() == schema_text(), "run `internal-kd schema --write`"


def test_the_schema_takes_a_bare_task_as_the_program_does() -> None:
    (patterns,) = json.loads(schema_text())["properties"]["tasks"]["patternProperties"].values()
    assert {"type": "null"} in patterns["anyOf"]
    values = {
        "study": {"name": "a", "seeds": [1]},
        "tasks": {"rte": None},
        "encoder": {"name": "a", "source": "folder", "path": "a"},
    }
    assert parse_params(values | {"methods": {"teacher": {"id": "1.0"}}}).tasks["rte"].source == "glue"


def test_a_project_may_be_overlays_alone(project: Path) -> None:
    Path("other.yaml").write_text("study: {name: a}\n")
    check_config_files(["other.yaml"])


@pytest.mark.parametrize("text", TEMPLATES)
@pytest.mark.parametrize("name", ["params.yaml", "other.yaml"])
def test_a_template_that_runs_python_is_refused(project: Path, name: str, text: str) -> None:
    Path(name).write_text(text)
    with pytest.raises(UserError, match=rf"^{name}: __\w+__ makes this a template"):
        check_config_files(["other.yaml"] if name == "other.yaml" else [])


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"study: {name: a}\nstudy: {name: b}\n", "twice"), (b"study: caf\xe9\n", "UTF-8"), (b"- study\n", "list")],
)
def test_what_cannot_be_read_is_one_line_with_its_name(project: Path, content: bytes, word: str) -> None:
    Path("params.yaml").write_bytes(content)
    with pytest.raises(UserError, match=rf"^params\.yaml.*{word}"):
        check_config_files()
