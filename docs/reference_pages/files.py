"""The page of files, from artefacts, run.json, the tables of results and the package itself."""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from collections.abc import Sequence

from internal_kd.report import frames
from reference_pages.markdown import PACKAGE, ROOT, prose, table


def files() -> str:
    """Return docs/reference/files.md."""
    artefacts = ast.get_docstring(ast.parse((PACKAGE / "plan/artefacts.py").read_text(encoding="utf-8"))) or ""
    tree = textwrap.dedent(artefacts.partition("::\n")[2]).strip("\n")
    parts = [_FILES.replace("{tree}", textwrap.indent(tree, "    ")), _run_json(), _tables(), _house()]
    return "\n".join(parts)


_FILES = """# Files

Everything expensive lies in a folder whose name ends in a fingerprint: twelve hexadecimal digits over all that
determines its content. [Design](../explanation/design.md) explains why.

## What the pipeline makes

{tree}

    results/<study>/
        report.html                    the report, in one file
        frames/                        every table as Parquet: what figures and report are made from
        tables/                        the same for people: .csv, and .md and .tex where a table is laid out
        tables/missing.csv             runs that are missing, and why
        tables/params.yaml             the study's parameters in one piece
        tables/metrics.json            scores for `dvc metrics`
        figures/                       every figure as .svg and .png
        made_from.json                 the runs, parameters and code that the results were made from

| placeholder | means |
| --- | --- |
| `<fp>` | the fingerprint |
| `<task>`, `<method>`, `<study>` | names in params.yaml |
| `<variant>` | the learner's shape and the number of training examples if not all: `L6`, `L4x312`, `L6-n1000`, `all` |
| `<k>` | the seed |
| `<needs>` | what was recorded of a teacher; a study that needs more records it next to what is there |

`data/` and `results/` are versioned by DVC. `work/` is scratch: everything in it can be made again, apart from
checkpoints of unfinished trainings. While a run trains, `work/progress/` has its progress and `work/logs/` its log.

Every `manifest.json` and `run.json` lists the size and SHA-256 of the folder's files. They are compared before a file
is used, once per process; what does not match is named and made again.

`predictions.parquet` has one row per dev example: `idx`, `label`, `logit_0`, `logit_1`, ... (MNLI's second dev set is
in `predictions_dev_mismatched.parquet`). If `select.of` names the run, `predictions_train.parquet` has its logits on
the training examples after every epoch. `history.jsonl` has one line per epoch: stage, every term of the loss, dev
scores, speed.
"""

RUN_JSON = {
    "step": "what made it", "label": "a name for people", "task": "the task", "method": "the method",
    "data_sha256": "SHA-256 of each split's Parquet file",
    "git_commit, git_dirty, lock_sha256, versions": "code and libraries, recorded when the job started",
    "device": "what it was trained on", "precision": "bf16 or fp32", "seconds": "training time over all attempts",
    "peak_memory": "bytes", "examples_per_second": "training speed",
    "encoder_parameters": "without embeddings, as in the paper", "total_parameters": "with embeddings",
    "epochs": "epochs trained", "micro_batch_size": "examples computed at once",
    "accumulation": "micro-batches per step", "started": "of the first attempt", "finished": "end of the last attempt",
    "scores": "dev scores of the final model; tables compute them again from predictions",
    "held_out": "scores on training examples kept aside (`select.hold_out`)",
    "majority": "main metric of always predicting the most frequent class, or the mean",
    "recorded_bytes": "of its teachers' answers on disk, for one example",
}  # fmt: skip


def _run_json() -> str:
    """Describe run.json; a key that the code does not write, or that is not described, is an error."""
    source = (PACKAGE / "steps/run_folder.py").read_text(encoding="utf-8")
    written = next(
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "record"
        and isinstance(node.value, ast.Dict)
    )
    keys = {key.value for key in written.keys if isinstance(key, ast.Constant)}
    described = {part for key in RUN_JSON if ", " not in key for part in [key]}
    if keys != described:
        raise ValueError(f"run.json: keys and descriptions differ in {sorted(keys ^ described)}")
    common = [
        ("fingerprint, recipe, params, inputs", "what determines the run"),
        ("files", "bytes and SHA-256 of every file"),
    ]
    rows = [(", ".join(f"`{key}`" for key in keys.split(", ")), text) for keys, text in (*common, *RUN_JSON.items())]
    return f"## run.json\n\n{table(('key', 'meaning'), rows)}"


def _tables() -> str:
    """Return every table of results with its columns, and the comment that stands above it in the code."""
    source = (PACKAGE / "report/frames.py").read_text(encoding="utf-8")
    lines = source.splitlines()
    schemas = next(
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign)
        and ast.unparse(node.target) == "SCHEMAS"
        and isinstance(node.value, ast.Dict)
    )
    parts = [
        "## Tables of results\n\nScores, differences and intervals are in natural units: 0.83, not 83. In the place of "
        "*varied keys* there is a column for each key of `study.vary`.\n"
    ]
    for key in schemas.keys:
        assert isinstance(key, ast.Constant)
        columns = ", ".join("*varied keys*" if c == "*" else f"`{c}`" for c in frames.SCHEMAS[key.value])
        note = _comment_above(lines, key.lineno)
        parts.append(f"**{key.value}**{': ' + note if note else ''}\n\n{columns}\n")
    return "\n".join(parts)


def _comment_above(lines: Sequence[str], number: int) -> str:
    found: list[str] = []
    for line in reversed(lines[: number - 1]):
        if not line.strip().startswith("#"):
            break
        found.insert(0, line.strip().lstrip("# "))
    return prose(" ".join(found))


def _house() -> str:
    """Return the package's parts from the ground up, in the order that pyproject's import contract declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    names = [name.strip() for layer in reversed(contract["layers"]) for name in re.split(r"[:|]", layer)]
    rows = []
    for name in names:
        path = next((p for p in (PACKAGE / name / "__init__.py", PACKAGE / f"{name}.py") if p.is_file()), None)
        if path is not None:
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            shown = f"{name}/" if path.name == "__init__.py" else f"{name}.py"
            rows.append((f"`{shown}`", prose(text.split("\n\n")[0])))
    return (
        "## The package\n\n`src/internal_kd/`, from the ground up: a module imports only what stands above it here. A "
        f"contract in pyproject.toml enforces that.\n\n{table(('part', 'what it is'), rows)}"
    )
