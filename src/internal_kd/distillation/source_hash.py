"""A hash of what a function computes, without importing it: an edited loss retrains the methods that weigh it."""

from __future__ import annotations

import ast
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from internal_kd.checksums import sha256_text
from internal_kd.errors import UserError

# Helpers in modules of this package count like those of the function's own file; other libraries are pinned.
FOLLOWED = "internal_kd.distillation."
# Fields of syntax trees that carry no meaning, or that only some versions of Python have.
_IGNORED = {"annotation", "returns", "type_comment", "type_params", "type_ignores", "kind", "ctx", "lineno"}


def source_hash(path: str) -> str:
    """Return the SHA-256 of the code behind ``"module:name"``.

    Counted are the function and everything of its own module, and of modules of this package, that it uses by name,
    step by step: helpers, classes, constants, imports. Comments, docstrings, annotations, formatting, the wording of
    errors and everything else in those files do not count.

    Raises:
        UserError: there is no such module or name, or the file is not Python.

    Example:
        >>> source_hash("internal_kd.distillation.losses:cls_cosine") == source_hash(
        ...     "internal_kd.distillation.losses:cls_cosine"
        ... )
        True
    """
    if path in _hashed and all(_changed(file) == changed for file, changed in _hashed[path][0].items()):
        return _hashed[path][1]
    module, _, name = path.partition(":")
    file = _file_of(module)
    if file is None or name not in _definitions(file, _changed(file)):
        raise UserError(f"{path}: {module} has no {name!r}" if file else f"{path}: there is no module {module!r}")
    files: dict[Path, int] = {}
    pending, seen = [(module, name)], dict[tuple[str, str], str]()
    while pending:
        where, what = pending.pop()
        if (where, what) in seen:
            continue
        found = _file_of(where)
        assert found is not None
        files[found] = _changed(found)
        nodes = _definitions(found, files[found]).get(what, ())
        # The module's own name is left out: a plugin's depends on where it lies.
        label = "" if where == module else where
        seen[where, what] = "\n".join([f"{label}:{what}", *(_text(node) for node in nodes)])
        for node in nodes:
            pending += _used(node, where, found)
    _hashed[path] = files, sha256_text("\n".join(sorted(seen.values())))
    return _hashed[path][1]


# By path of a function: when the files that its hash comes from were written, and the hash.
_hashed: dict[str, tuple[dict[Path, int], str]] = {}


def _changed(file: Path) -> int:
    """When a file was last written, in nanoseconds; -1 for one that is gone."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return -1


def _used(node: ast.stmt, module: str, file: Path) -> list[tuple[str, str]]:
    """What a definition uses by name: of its own module, and of followed modules that it imports from."""
    known = _definitions(file, _changed(file))
    used: set[tuple[str, str]] = set()
    for part in _walk(node):
        if isinstance(part, ast.Name) and part.id in known:
            used.add((module, part.id))
        elif isinstance(part, ast.ImportFrom):
            source = part.module or ""
            if part.level == 0 and f"{source}.".startswith(FOLLOWED) and _file_of(source) is not None:
                used |= {(source, alias.name) for alias in part.names}
    return sorted(used)


def _file_of(module: str) -> Path | None:
    """The source file of a module, which is not imported; its packages are."""
    loaded = sys.modules.get(module)
    found = getattr(loaded, "__file__", None) if loaded else None
    if found is None:
        try:
            spec = find_spec(module)
        except (ImportError, ValueError):
            return None
        found = spec.origin if spec else None
    return Path(found) if found and found.endswith(".py") else None


@cache
def _definitions(file: Path, changed: int) -> dict[str, tuple[ast.stmt, ...]]:
    """The top-level statements of a file that bind each name; ``changed`` is when the file was last written."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file} cannot be read as Python ({error})") from None
    found: dict[str, tuple[ast.stmt, ...]] = {}

    def enter(statements: list[ast.stmt], outer: ast.stmt | None) -> None:
        for node in statements:
            if isinstance(node, ast.If | ast.Try | ast.With):
                inner = [*node.body, *getattr(node, "orelse", []), *getattr(node, "finalbody", [])]
                inner += [part for handler in getattr(node, "handlers", []) for part in handler.body]
                enter(inner, outer or node)
                continue
            for name in _bound(node):
                found[name] = (*found.get(name, ()), outer or node)

    enter(tree.body, None)
    return found


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [part.id for target in targets if target for part in ast.walk(target) if isinstance(part, ast.Name)]


def _children(node: ast.AST) -> list[tuple[str, list[object]]]:
    """The fields of a node that count, as lists; empty ones are left out, as newer versions of Python do."""
    kept: list[tuple[str, list[object]]] = []
    for name, value in ast.iter_fields(node):
        values = value if isinstance(value, list) else [value]
        if name == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            # A string that stands alone is a docstring.
            values = [part for part in values if not (isinstance(part, ast.Expr) and _is_text(part.value))]
        values = [part for part in values if part is not None]
        if name not in _IGNORED and values and not isinstance(node, ast.Raise):
            kept.append((name, values))
    return kept


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _walk(node: ast.AST) -> list[ast.AST]:
    inner = [part for _, values in _children(node) for part in values if isinstance(part, ast.AST)]
    return [node, *(deeper for part in inner for deeper in _walk(part))]


def _text(node: ast.AST) -> str:
    """A node as text that is the same in every version of Python; ``ast.dump`` is not."""
    fields = [
        f"{name}=[{', '.join(_text(part) if isinstance(part, ast.AST) else repr(part) for part in values)}]"
        for name, values in _children(node)
    ]
    return f"{type(node).__name__}({', '.join(fields)})"
