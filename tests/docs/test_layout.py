"""docs/layout.md lists the package from the ground up, and imports point up that list."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/internal_kd"
# The exceptions that the page names.
LEAVES = {
    ("params", "distillation.objectives"),
    ("params", "distillation.curricula"),
    ("artefacts", "data.generator"),
}


def floors() -> dict[str, int]:
    """Every module and folder of the package by its line of the page."""
    page = (ROOT / "docs/layout.md").read_text(encoding="utf-8")
    lines = re.findall(r"^      (\w+(?:/|\.py)(?:, \w+\.py)*) ", page, flags=re.MULTILINE)
    names = [re.findall(r"\w+(?=/|\.py)", line) for line in lines]
    return {name: floor for floor, together in enumerate(names) for name in together}


def imports(path: Path) -> Iterator[str]:
    """What a module imports of this package, without the package's own name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "internal_kd":
            module = str(node.module).removeprefix("internal_kd").removeprefix(".")
            # A module may be named as part of its folder or by the import itself.
            yield from (
                [module]
                if (PACKAGE / module.replace(".", "/")).with_suffix(".py").is_file()
                else [
                    f"{module}.{alias.name}".strip(".") if _is_module(module, alias.name) else module
                    for alias in node.names
                ]
            )


def _is_module(folder: str, name: str) -> bool:
    inside = PACKAGE / folder.replace(".", "/")
    return (inside / f"{name}.py").is_file() or (inside / name).is_dir()


def test_every_part_of_the_package_has_its_line():
    assert set(floors()) == {
        path.stem for path in PACKAGE.iterdir() if not path.name.startswith("__") and path.name != "py.typed"
    }


def test_imports_point_up_the_list():
    floor, wrong = floors(), []
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for module in imports(path):
            part = module.partition(".")[0]
            if part and own in floor and floor[part] > floor[own] and (own, module) not in LEAVES:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {module}")
    assert wrong == []


def test_the_leaves_stand_on_errors_alone():
    for _, module in LEAVES:
        place = PACKAGE / module.replace(".", "/")
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        assert {found for path in files for found in imports(path) if not found.startswith(module)} <= {"errors"}
