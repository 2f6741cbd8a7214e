"""The one kind of error a person is meant to read."""


class UserError(Exception):
    """A mistake a user can mend: one line that names the thing, its value and the way out.

    The command line prints it without a traceback and exits with code 1.
    """


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest known word, or an empty string."""
    import difflib

    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""
