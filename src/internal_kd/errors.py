"""The errors a person is meant to read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake a user can fix: one line that names the thing, its value and the way out.

    The command line prints it without a traceback and exits with code 1. What it quotes may come from a broken file:
    line ends become spaces, other characters that a terminal would obey are escaped, and the rest of a long one is cut.
    """

    LONGEST = 1000

    def __init__(self, message: str) -> None:
        """Take the line."""
        shown = "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in message)
        super().__init__(shown if len(shown) <= self.LONGEST else f"{shown[: self.LONGEST]}...")


class Interrupted(UserError):
    """A training that was asked to stop and has written its checkpoint."""


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest known word, or an empty string."""
    import difflib

    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""


@contextmanager
def named(where: str) -> Iterator[None]:
    """Put the parameter in front of any UserError raised inside the block."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
