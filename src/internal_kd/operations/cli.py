"""The command line: one sub-command per rule of the pipeline, and the ones people need around it.

Everything heavy is imported by the command that needs it, so that ``internal-kd --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version

from internal_kd.errors import UserError
from internal_kd.operations.commands import COMMANDS, Command, Option
from internal_kd.operations.preloaded import done_by_preloaded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 a mistake to mend, 2 wrong usage, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(given)
    if arguments is None and (code := done_by_preloaded(given)) is not None:
        return code
    try:
        return COMMANDS[options.command].handler()(options)
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


def parse_arguments(given: list[str]) -> argparse.Namespace:
    """Read a command line; everything after ``run`` is Snakemake's, options of the same names included."""
    if given[:1] == ["run"] and given[1:2] not in (["-h"], ["--help"]):
        return argparse.Namespace(command="run", arguments=given[1:])
    return build_parser().parse_args(given)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all sub-commands."""
    parser = argparse.ArgumentParser(
        prog="internal-kd",
        description="Knowledge distillation from internal representations: the pipeline's steps, one by one, and "
        "what surrounds them. `internal-kd run` does them all.",
        epilog="`internal-kd COMMAND --help` says what a command reads and writes.",
    )
    parser.add_argument("--version", action="version", version=f"internal-kd {version('internal-kd')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        _add_command(commands, name, command)
    return parser


def _add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, command: Command) -> None:
    reads = f"\n\nreads:  {command.reads}" if command.reads else ""
    writes = f"\nwrites: {command.writes}" if command.writes else ""
    parser = commands.add_parser(
        name,
        help=command.summary,
        description=f"{command.summary[0].upper()}{command.summary[1:]}.{reads}{writes}",
        epilog=f"example: {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for option in command.options:
        _add_option(parser, option)


def _add_option(parser: argparse.ArgumentParser, option: Option) -> None:
    parser.add_argument(option.flag, **option.settings)


if __name__ == "__main__":
    sys.exit(main())
