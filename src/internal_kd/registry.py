"""Registries: tables of named things that a method, a task or a learner may choose from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from internal_kd.errors import UserError, nearest

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """A table of entries by name; iterating it yields names in the order they were added.

    Args:
        what: what an entry is called in error messages, such as ``"objective"``.
        entries: what the table holds from the start.

    Example:
        >>> shapes = Registry("shape", {"circle": 1, "square": 4})
        >>> shapes["circle"]
        1
    """

    def __init__(self, what: str, entries: Mapping[str, Entry] | None = None) -> None:
        self.what = what
        self._entries: dict[str, Entry] = dict(entries or {})

    def __getitem__(self, name: str) -> Entry:
        """Return an entry.

        Raises:
            UserError: the name is unknown; the message gives the nearest one.
        """
        if name not in self._entries:
            known = ", ".join(self._entries)
            raise UserError(f"unknown {self.what} {name!r}{nearest(str(name), list(self._entries))}; known: {known}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, name: str, entry: Entry) -> None:
        """Add an entry, for example from a plugin.

        Raises:
            UserError: the name is taken.
        """
        if name in self._entries:
            raise UserError(f"{self.what} {name!r} exists already; choose another name")
        self._entries[name] = entry


def resolve(path: str) -> Any:
    """Import and return what ``"module:name"`` names.

    Raises:
        UserError: the module has no such name.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)
    except AttributeError:
        raise UserError(f"{module} has no {name!r}") from None
