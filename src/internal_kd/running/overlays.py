"""The option that names overlays, spelled alike in every command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

OVERLAY_FLAGS = ("--overlay", "--configfile", "--configfiles")
ENDINGS = (".yaml", ".yml", ".json")


# Settings of argparse for an option of these names.
OVERLAY_SETTINGS: dict[str, Any] = {
    "dest": "overlay",
    "action": "append",
    "default": [],
    "metavar": "FILE",
    "help": "laid over params.yaml; several files, one after the other, are allowed (--configfile means the same)",
}


def spread_overlays(arguments: Sequence[str]) -> list[str]:
    """Repeat the option for every further file after it; what does not end like YAML is left where it stands.

    Example:
        >>> spread_overlays(["--overlay", "a.yaml", "b.yaml", "all"])
        ['--overlay', 'a.yaml', '--overlay', 'b.yaml', 'all']
    """
    spread: list[str] = []
    files = 0
    following = False
    for argument in arguments:
        if argument in OVERLAY_FLAGS:
            following, files = True, 0
        elif following and argument.endswith(ENDINGS) and not argument.startswith("-"):
            spread += ["--overlay"] if files else []
            files += 1
        else:
            following = following and not files and not argument.startswith("-")
        spread.append(argument)
    return spread
