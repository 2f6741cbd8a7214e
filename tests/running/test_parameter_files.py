import json
from pathlib import Path

import pytest

from internal_kd.errors import UserError
from internal_kd.params import load_params, parse_params
from internal_kd.plan.study import Study
from internal_kd.running.parameter_files import SCHEMA_FILE, merged_text, schema_text
from tiny_study import OVERLAY, ROOT


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
