"""The page of commands, from the command line's own table."""

from __future__ import annotations

from typing import Any

from internal_kd.command_line import COMMANDS
from internal_kd.running.run import run_parser
from reference_pages.markdown import code_names, prose, table


def commands() -> str:
    """Return docs/reference/commands.md."""
    overview = table(("command", "does"), [(f"[`{name}`](#{name})", each.summary) for name, each in COMMANDS.items()])
    return "\n".join([f"{_COMMANDS}\n{overview}", *map(_command, COMMANDS.values())])


_COMMANDS = """# Commands

`internal-kd COMMAND`. Without `--params` and `--overlay`, a command works on the study of `params.yaml` in the current
folder. Exit codes: 0 done, 1 something to fix (one line says what), 2 wrong usage, 130 interrupted.
"""


def _command(command: Any) -> str:
    text = "\n\n".join(" ".join(part.split()) for part in (command.run.__doc__ or "").split("\n\n"))
    parts = [f"## {command.name}\n\n{text}\n"]
    if command.options:
        rows = _own_options_of_run() if command.name == "run" else []
        for option in command.options:
            value = option.settings.get("metavar", "")
            names = ", ".join(f"`{name}`" for name in option.names if name.startswith("-"))
            rows.append((f"{names} {value}".strip() if names else f"`{value}`", prose(option.settings.get("help", ""))))
        parts.append(table(("option", "meaning"), rows))
    parts.append(f"```bash\n{command.example}\n```\n")
    facts = [
        f"- {what}: {prose(each)}" for what, each in (("Reads", command.reads), ("Writes", command.writes)) if each
    ]
    return "\n".join([*parts, "\n".join(facts) + "\n"])


def _own_options_of_run() -> list[tuple[str, str]]:
    """Return the options of ``run`` that are not Snakemake's."""
    meanings = {"overlay": "laid over params.yaml, one after the other; `--configfile` means the same"}
    options: dict[str, tuple[list[str], str]] = {}
    for action in run_parser()._actions:
        meaning = meanings.get(action.dest, action.help or "")
        options.setdefault(action.dest, ([], meaning))[0].extend(action.option_strings)
    return [(code_names(names), meaning) for names, meaning in options.values()]
