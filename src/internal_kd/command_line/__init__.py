"""The command line: what people ask around the pipeline, and the one command behind all of its rules.

Everything heavy is imported by the command that needs it, so that ``internal-kd --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

from internal_kd.command_line import language_models, pipeline, results, upkeep
from internal_kd.command_line.commands import COMMANDS, Command, Options
from internal_kd.errors import UserError, nearest
from internal_kd.running.overlays import spread_overlays

__all__ = ["COMMANDS", "build_parser", "language_models", "main", "parse_arguments", "pipeline", "results", "upkeep"]

# Those whose libraries a warm worker has loaded, if `internal-kd run` keeps one.
WARM = frozenset({"make", "evaluate", "plot", "report", "map-attention", "measure-latency"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 a mistake to fix, 2 wrong usage, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(given)
    try:
        if arguments is None and options.command in WARM and os.environ.get("INTERNAL_KD_WARM"):
            from internal_kd.running.warm import do_warm

            if (code := do_warm(f"{__name__}:main", given)) is not None:
                return code
        return COMMANDS[options.command].run(options)
    except UserError as error:
        print(f"internal-kd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("internal-kd: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing is wrong, and Python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parse_arguments(given: list[str]) -> Options:
    """Read a command line; everything after ``run`` is Snakemake's, options of the same names included."""
    name = given[0] if given else ""
    if name == "run" and given[1:2] not in (["-h"], ["--help"]):
        return Options(command="run", arguments=given[1:])
    if name in COMMANDS:
        options = _Parser(**_words(COMMANDS[name]), add_options_of=COMMANDS[name]).parse_args(
            spread_overlays(given[1:])
        )
        options.command = name
        return options
    if name and not name.startswith("-"):
        _usage_error(f"unknown command {name!r}{nearest(name, list(COMMANDS))}; commands: {', '.join(COMMANDS)}")
    return build_parser().parse_args(given)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    parser = _Parser(
        prog="internal-kd",
        description="Knowledge distillation from internal representations: `internal-kd run` does a study from data to "
        "report; the other commands show it, or do a part of it.",
        epilog="`internal-kd COMMAND --help` shows what a command reads and writes.",
    )
    parser.add_argument("--version", action="version", version=f"internal-kd {version('internal-kd')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, command in COMMANDS.items():
        help_line = command.summary[0].lower() + command.summary[1:]
        commands.add_parser(name, help=help_line, **_words(command), add_options_of=command)
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are one line, with the nearest option."""

    def __init__(self, *, add_options_of: Command | None = None, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        for option in add_options_of.options if add_options_of else ():
            self.add_argument(*option.names, **option.settings)

    def error(self, message: str) -> NoReturn:
        """Print the line and end with 2."""
        unknown = message.rpartition("unrecognized arguments: ")[2].split(" ")[0]
        known = [name for action in self._actions for name in action.option_strings]
        close = nearest(unknown, known) if unknown.startswith("-") else ""
        _usage_error(f"{message}{close}; see `{self.prog} --help`")


def _words(command: Command) -> dict[str, Any]:
    """Return what ``--help`` shows of a command, as argparse's settings."""
    paragraphs = [" ".join(part.split()) for part in (command.run.__doc__ or "").split("\n\n")]
    notes = [f"{what}: {text}" for what, text in (("reads", command.reads), ("writes", command.writes)) if text]
    return {
        "prog": f"internal-kd {command.name}",
        "description": "\n\n".join([*paragraphs, *notes]),
        "epilog": f"example: {command.example}",
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _usage_error(message: str) -> NoReturn:
    print(f"internal-kd: {message}", file=sys.stderr)
    raise SystemExit(2)
