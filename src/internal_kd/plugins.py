"""A user's own Python files, which enter objectives, learners, curricula, selectors and metrics into the registries."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from internal_kd.checksums import sha256_text
from internal_kd.errors import UserError

# How the names of their modules begin.
PLUGIN = "internal_kd_plugin_"


def load_plugins(paths: Iterable[Path | str]) -> None:
    """Import each file once per process, under a module name of its own.

    Raises:
        UserError: a file does not exist, fails to import, or enters a name that is taken.
    """
    for path in map(Path, paths):
        name = plugin_module(path)
        if name in sys.modules:
            continue
        if not path.is_file():
            raise UserError(f"plugins: {path} does not exist; give the path of a Python file")
        spec = spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UserError(f"plugins: {path} is not a Python file; its name must end in .py")
        module = sys.modules[name] = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            raise UserError(f"plugins: {path} cannot be imported ({kind}{error})") from error


def plugin_module(path: Path | str) -> str:
    """Return the name under which a plugin file is imported; files of one name in two folders have two.

    Example:
        >>> plugin_module("my_losses.py").startswith("internal_kd_plugin_my_losses_")
        True
    """
    path = Path(path)
    stem = re.sub(r"\W", "_", path.stem)
    return f"{PLUGIN}{stem}_{sha256_text(str(path.resolve()))[:8]}"
