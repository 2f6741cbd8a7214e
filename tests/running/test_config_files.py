"""The files that describe a study are looked at before Snakemake reads them."""

from pathlib import Path

import pytest

from internal_kd.errors import UserError
from internal_kd.running.config_files import check_config_files

TEMPLATES = [
    "__use_yte__: true\nstudy:\n  name: ?open('pwned', 'w')\n",
    '__definitions__: [\'open("pwned", "w")\']\n',
    '{"__use_yte__": true}',
    "a: &a {__use_yte__: true}\n<<: *a\n",
]


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
    [(b"study: {name: a}\nstudy: {name: b}\n", "twice"), (b"study: caf\xe9\n", "YAML"), (b"- study\n", "list")],
)
def test_what_cannot_be_read_is_one_line_with_its_name(project: Path, content: bytes, word: str) -> None:
    Path("params.yaml").write_bytes(content)
    with pytest.raises(UserError, match=rf"^params\.yaml.*{word}"):
        check_config_files()
