"""The order of the house: who may import whom, and what planning never loads."""

import subprocess
import sys
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "pandas", "sklearn", "scipy", "matplotlib", "mlflow", "datasets", "snakemake", "dvc")


def test_a_module_imports_only_modules_further_down(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == 0


def test_planning_and_the_command_line_load_nothing_heavy():
    code = (
        "import sys, internal_kd, internal_kd.plan.study, internal_kd.command_line\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_files_of_tests_differ_in_name():
    # pytest imports them by name alone: two of one name, and `pytest` without arguments collects nothing.
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
