"""The commands that the pages print are accepted by the command line."""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.pages import PAGES, ROOT, all_blocks, name_of, spans_of
from internal_kd.command_line import COMMANDS, parse_arguments
from internal_kd.running.overlays import spread_overlays
from internal_kd.running.run import run_parser

RULES = "\n".join(path.read_text() for path in (ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))))
TARGETS = set(re.findall(r"^rule (\w+):", RULES, re.MULTILINE))
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
# Judged here or by DVC's parser, and what comes with a shell, git, a cluster or a container.
# fmt: off
TOOLS = {
    "internal-kd", "make", "snakemake", "dvc", "mlflow", "git", "source", "cd", "export", "pip", "tail", "ssh", "tmux",
    "OMP_NUM_THREADS=1", ".venv/bin/python", "srun", "squeue", "docker", "apptainer",
}
# fmt: on
PLACEHOLDER = re.compile(r"<[\w -]+>")


def commands_of(text: str, tools: str = "internal-kd") -> Iterator[str]:
    """Yield the commands of a tool among the lines of code blocks and the code spans."""
    blocks = "\n".join(re.findall(r"^ *```(?:bash)?\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE))
    for line in [*blocks.replace("\\\n", " ").splitlines(), *spans_of(text)]:
        for part in re.split(r" && |; |\$ ", " ".join(line.split())):
            if found := re.match(rf"(?:\w+=\S+ )*((?:{tools})(?: .*)?)$", part):
                yield found[1]


def fault_in(command: str) -> str | None:
    """Return why a command would be refused, or None.

    A command or an option may be named alone, whatever it requires. Of what follows ``run`` only the target and the
    parameter files are ours to judge: the rest is Snakemake's.
    """
    words = [PLACEHOLDER.sub("x", word) for word in shlex.split(command, comments=True)[1:]]
    files = [word for word in words if re.fullmatch(r"(config|profiles)/[\w/-]+(\.yaml)?", word)]
    if missing := [name for name in files if not (ROOT / name).exists()]:
        return f"{missing[0]} does not exist"
    if not words or words in (["COMMAND"], ["COMMAND", "--help"]):
        return None
    name, *given = words
    if name == "run" and given and given[0].isidentifier() and given[0] not in TARGETS:
        return f"no target {given[0]!r}"
    if name == "run":
        _, passed = run_parser().parse_known_args(spread_overlays(given))
        if lost := [word for word in passed if word.endswith(".yaml")]:
            return f"{lost[0]} is the value of no option"
    if name in COMMANDS and (not given or "..." in given):
        known = {spelling for option in COMMANDS[name].options for spelling in option.names}
        unknown = [word for word in given if word.startswith("--") and word not in known]
        return f"no option {unknown[0]!r}" if unknown and name != "run" else None
    if given and given[-1].startswith("--"):
        return None if not _refusal([name, *given, "1"]) else _refusal([name, *given])
    return _refusal([name, *given])


def _refusal(given: list[str]) -> str | None:
    with contextlib.redirect_stderr(io.StringIO()) as printed, contextlib.redirect_stdout(io.StringIO()):
        try:
            parse_arguments(given)
        except SystemExit as refused:
            return printed.getvalue().splitlines()[-1] if refused.code else None
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_of_a_page_are_accepted(page: Path) -> None:
    faults = {command: fault_in(command) for command in commands_of(page.read_text(encoding="utf-8"))}
    assert {command: fault for command, fault in faults.items() if fault} == {}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_targets_of_make_and_snakemake_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for command in commands_of(text, "make|snakemake"):
        tool, *words = shlex.split(command, comments=True)
        known = MAKE_TARGETS if tool == "make" else TARGETS
        named = [word for word in words if re.fullmatch(r"[a-z_-]*[a-z]", word) and not word.startswith("-")]
        # What follows an option is its value.
        named = named if tool == "make" else [word for word in words[:1] if word in named]
        assert {word for word in named if word not in known} == set(), command


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_of_dvc_are_read_by_its_own_parser(page: Path) -> None:
    from dvc.cli import DvcParserError
    from dvc.cli.parser import get_main_parser

    refused = []
    for command in commands_of(page.read_text(encoding="utf-8"), "dvc"):
        words = [PLACEHOLDER.sub("x", word) for word in shlex.split(command, comments=True)[1:]]
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                get_main_parser().parse_args(words)
        except (DvcParserError, SystemExit):
            refused.append(command)
    assert [command for command in refused if len(command.split()) > 2] == []  # one word names a group of commands


def test_every_other_tool_is_one_that_readers_have() -> None:
    lines = [line.strip() for block in all_blocks("bash") for line in block.text.replace("\\\n", " ").splitlines()]
    parts = [part for line in lines for part in re.split(r" && ", line) if part and not part.startswith("#")]
    tools = {re.sub(r"^(?:\w+=\S+ )+", "", part).split()[0] for part in parts}
    assert tools - TOOLS == set()


def test_there_are_commands_to_judge() -> None:
    assert len(all_blocks("bash")) > 20


def test_commands_are_found_in_blocks_and_spans() -> None:
    text = (
        "Do `internal-kd status\n--watch 5`, not `internal-kds`.\n\n"
        "```bash\nA=1 internal-kd run \\\n  export  # why\ncd internal-kd\ndvc pull && internal-kd runs\n```\n\n"
        "An odd ` here.\n\n`internal-kd gc`\n\n```yaml\ninternal-kd: 1\n```\n"
    )
    assert list(commands_of(text)) == [
        "internal-kd run export # why", "internal-kd runs", "internal-kd status --watch 5", "internal-kd gc",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("plot --again", "unrecognized arguments: --again"),
        ("draw", "unknown command 'draw'"),
        ("make", None),
        ("make --overlay config/demo.yaml", "FINGERPRINT"),
        ("report ... --pages", "no option '--pages'"),
        ("status --watch often", "invalid float value: 'often'"),
        ("run everything", "no target 'everything'"),
        ("run --cores 2 --overlay config/nowhere.yaml", "config/nowhere.yaml does not exist"),
        ("gc --rows x", "unrecognized arguments: --rows"),
        ("--help", None),
        ("COMMAND --help", None),
        ("make <fingerprint>", None),
        ("status --overlay", None),
        ("plot --overlay results/<study>/tables/params.yaml", None),
        ("run export --overlay config/demo.yaml --dry-run", None),
        ("status --watch 30   # until it is done", None),
    ],
)
def test_a_command_that_would_be_refused_is_found(command: str, fault: str | None) -> None:
    found = fault_in(f"internal-kd {command}")
    assert fault in found if fault and found else fault is found
