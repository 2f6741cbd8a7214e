"""What a command is: a function with its options beside it, and the study that they name."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internal_kd.errors import UserError
from internal_kd.running.overlays import OVERLAY_FLAGS, OVERLAY_SETTINGS

if TYPE_CHECKING:
    from internal_kd.plan.study import Study

Options = argparse.Namespace


class Option:
    """One option of a command: its spellings, and argparse's settings for it."""

    def __init__(self, *names: str, **settings: Any) -> None:
        self.names, self.settings = names, settings


@dataclass(frozen=True)
class Command:
    """One command. ``run`` returns the exit code; the first line of its docstring is what ``--help`` shows."""

    name: str
    run: Callable[[Options], int]
    options: tuple[Option, ...]
    example: str
    reads: str
    writes: str

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return (self.run.__doc__ or "").splitlines()[0].rstrip(".")


COMMANDS: dict[str, Command] = {}


def command(*options: Option, example: str, reads: str = "", writes: str = "") -> Callable[..., Any]:
    """Make a function the command of its name."""

    def add(run: Callable[[Options], int]) -> Callable[[Options], int]:
        name = run.__name__.strip("_").replace("_", "-")
        COMMANDS[name] = Command(name, run, options, example, reads, writes)
        return run

    return add


PARAMS = Option("--params", metavar="FILE", help="the study (default: params.yaml)")
OVERLAY = Option(*OVERLAY_FLAGS, **OVERLAY_SETTINGS)
STUDY = (PARAMS, OVERLAY)
LOG = Option("--log", metavar="FILE", help="write everything there, and on the terminal only what came out of it")


def study_of(options: Options, *, or_last: bool = False) -> Study:
    """Plan the study that the options name; without any, params.yaml, or the study that was started last."""
    from internal_kd.params import load_params
    from internal_kd.plan.study import plan_study
    from internal_kd.running.environment import prepare_environment

    prepare_environment()
    file = options.params or "params.yaml"
    if or_last and not (options.params or options.overlay):
        from internal_kd.running.dvc import LAST

        file = str(LAST) if LAST.is_file() else file
    if not options.params and not Path(file).exists():
        raise UserError(f"{Path.cwd()} has no {file}: change into an internal-kd project, or give --params FILE")
    return plan_study(load_params(file, options.overlay))


def study_offline(options: Options) -> Study:
    """Plan the study, and keep the libraries that a command loads from asking a network."""
    from internal_kd.running.environment import prepare_environment

    prepare_environment(offline=True)
    return study_of(options)


def as_typed(options: Options) -> str:
    """Return the options that name the study, as they would be typed again."""
    params = f" --params {options.params}" if options.params else ""
    return params + (f" --overlay {' '.join(options.overlay)}" if options.overlay else "")


def print_or_write(text: str, write: bool, path: Path) -> int:
    """Print a text, or with ``write`` make it the content of a file and print the file's name."""
    from internal_kd.files import write_text

    if not write:
        print(text, end="")
        return 0
    write_text(path, text)
    print(path)
    return 0


@contextmanager
def output_in(log: str | None) -> Iterator[Callable[[str], None]]:
    """Send what this process and its children print to a file; yield what prints on the terminal all the same."""
    if log is None:
        yield print
        return
    from internal_kd.files import writing_failed

    try:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError as error:
        raise writing_failed(Path(log), error) from error
    terminal = os.dup(1)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log is read while it is written

    def tell(line: str) -> None:
        print(line)
        with suppress(OSError):
            os.write(terminal, f"{line}\n".encode(errors="replace"))

    # Not restored: whatever goes wrong from here on, a traceback included, belongs into the log.
    yield tell
