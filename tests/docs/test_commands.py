"""The commands that the pages print are such as the command line takes."""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from internal_kd.operations.cli import parse_arguments
from internal_kd.operations.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TARGETS = set(re.findall(r"^rule (\w+):", (ROOT / "Snakefile").read_text(encoding="utf-8"), re.MULTILINE))
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
PLACEHOLDER = re.compile(r"<[\w -]+>")
ELIDED = "..."


def commands_of(text: str) -> Iterator[str]:
    """Yield what starts with internal-kd among the lines of code blocks and the code spans."""
    blocks = "\n".join(block for language, block in FENCED.findall(text) if language in ("", "bash"))
    lines = blocks.replace("\\\n", " ").splitlines()
    # No span is longer than its paragraph, so that an odd backtick turns no prose elsewhere into code.
    for paragraph in re.split(r"\n\s*\n", FENCED.sub("\n\n", text)):
        lines += re.findall(r"`([^`]+)`", paragraph)
    for line in lines:
        if found := re.match(r"(?:\w+=\S+ )*(internal-kd(?: .*)?)$", " ".join(line.split())):
            yield found.group(1)


def fault_in(command: str) -> str | None:
    """Return why a command would be refused, or None.

    A verb or an option may be named by itself, whatever it requires. Of what follows ``run`` only the target and the
    configuration files are ours to judge: the rest is Snakemake's.
    """
    words = shlex.split(command, comments=True)[1:]
    if lacking := [
        word for word in words if re.fullmatch(r"config/[\w/-]+\.yaml", word) and not (ROOT / word).is_file()
    ]:
        return f"{lacking[0]} is not there"
    verb, *given = [PLACEHOLDER.sub("1", word) for word in words] or ["1"]
    if verb == "1" or (verb in COMMANDS and not given):
        return None
    if verb == "run" and given[0].isidentifier() and given[0] not in TARGETS:
        return f"no target {given[0]!r}"
    if ELIDED in given and verb in COMMANDS:
        unknown = {word for word in given if word.startswith("--")} - {option.flag for option in COMMANDS[verb].options}
        return f"no option {min(unknown)!r}" if unknown and verb != "run" else None
    if given and given[-1].startswith("--"):
        return None if not _refusal([verb, *given, "1"]) else _refusal([verb, *given])
    return _refusal([verb, *given])


def _refusal(given: list[str]) -> str | None:
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        try:
            parse_arguments(given)
        except SystemExit as refused:
            return said.getvalue().splitlines()[-1] if refused.code else None
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_are_accepted(page: Path) -> None:
    faults = {command: fault_in(command) for command in commands_of(page.read_text(encoding="utf-8"))}
    assert {command: fault for command, fault in faults.items() if fault} == {}


def test_commands_are_found_in_blocks_and_spans() -> None:
    text = (
        "Do `internal-kd status\n--watch 5`, not `internal-kds`.\n\n"
        "```bash\nA=1 internal-kd run \\\n  export  # why\ncd internal-kd\n```\n\n"
        "An odd ` here.\n\n`internal-kd gc`\n\n```yaml\ninternal-kd: 1\n```\n"
    )
    assert list(commands_of(text)) == ["internal-kd run export # why", "internal-kd status --watch 5", "internal-kd gc"]


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("plot-figures --configfile config/demo.yaml", "unrecognized arguments: --configfile"),
        ("draw-figures", "invalid choice: 'draw-figures'"),
        ("train-student --task rte", "the following arguments are required: --depth"),
        ("train-student ... --tasks rte", "no option '--tasks'"),
        ("status --watch often", "invalid number value: 'often'"),
        ("run everything", "no target 'everything'"),
        ("run --cores 2 --configfile config/nowhere.yaml", "config/nowhere.yaml is not there"),
        ("gc --overlay", "unrecognized arguments: --overlay"),
    ],
)
def test_a_command_that_would_be_refused_is_found(command: str, fault: str) -> None:
    assert fault in str(fault_in(f"internal-kd {command}"))


@pytest.mark.parametrize(
    "command",
    [
        "",
        "--help",
        "<verb>",
        "train-student",
        "train-student ... --seed 1",
        "train-student --task <task> --depth <layers> --method soft --seed <k>",
        "status --overlay",
        "plot-figures --overlay results/<study>/tables/params.yaml",
        "run export --configfile config/demo.yaml --dry-run",
        "status --watch 30   # until it is done",
    ],
)
def test_verbs_and_options_by_themselves_and_placeholders_are_fine(command: str) -> None:
    assert fault_in(f"internal-kd {command}") is None
