"""The measured part of docs/explanation/performance.md; what stands outside its marks is written by hand and stays."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.contestants import GROUPS
from bench.targets import Found, by_objective, complete_curriculum, ratio, seconds, targets

BEGIN, END = "<!-- measured: make bench writes from here -->", "<!-- measured: to here -->"


def put_into(page: Path, measured: str) -> None:
    """Replace what stands between the marks.

    Raises:
        ValueError: the page has no such marks.
    """
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{page} must hold one line {BEGIN!r} and one {END!r}")
    before, _, rest = text.partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{measured}\n{END}{rest.partition(END)[2]}")


def measured_part(results: dict[str, Any]) -> str:
    """Return everything that was measured, as Markdown; groups that were not are left out."""
    parts = [_setting(results), "### Targets\n", _targets(results)]
    for group, title in _TITLES.items():
        if group in results:
            parts += [f"### {title}\n", _speeds(results[group], group)]
    if "objectives" in results:
        parts += ["### Every objective\n", _objectives(results)]
    if "ablation" in results:
        parts += ["### What each part is worth\n", _ablation(results)]
    if "comparison" in results:
        parts += ["### What the losses are\n", _losses(results)]
    return "\n".join(parts)


_TITLES = {"comparison": "Contestants, fp32", "bf16": "Contestants, bf16"}


def _setting(results: dict[str, Any]) -> str:
    machine, versions = results["machine"], results["versions"]
    where = machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads per contestant"
    lines = [
        f"- Machine: {where}; {machine['memory_gb']:.0f} GB; {machine['system']}; "
        f"load before the start {machine['load']:.1f}.",
        "- Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        f"- Command: `{results['command']}`, {results['day']}.",
        *(_of_workload(results) if any(group in results for group in GROUPS) else ()),
    ]
    return "\n".join(lines) + "\n"


def _of_workload(results: dict[str, Any]) -> list[str]:
    work, lengths = results["workload"], results["lengths"]
    counts = {g: len(next(iter(results[g].values()))["rounds"]) for g in GROUPS if g in results}
    rounds = ", ".join(f"{count} of {group}" for group, count in counts.items())
    return [
        f"- A teacher of {work['teacher_layers']} layers, student of {work['student_layers']}, width {work['width']}, "
        f"{work['heads']} heads, random weights, dropout 0.1; batches of {work['batch_size']}.",
        f"- {work['examples']:,} examples of random words (Zipf), lengths log-normal: mean {lengths['mean']:.1f}, "
        f"longest {lengths['longest']}.",
        f"- Rounds of {work['steps']} steps in turn (A B C A B C ...), after {work['warm_up']} of warm-up: {rounds}.",
        "- Speeds are medians over rounds; ratios are taken round by round: median (lowest to highest).",
    ]


def _targets(results: dict[str, Any]) -> str:
    rows = [(t.what, t.limit, t.figure, "reached" if t.reached else "**not reached**") for t in targets(results)]
    return table(("what", "target", "measured", ""), rows)


def _speeds(found: Found, group: str) -> str:
    base = "row_33" if group == "comparison" else f"row_33_{group}"
    rows = []
    for contestant in (c for c in GROUPS[group] if c.name in found):
        own, rounds = seconds(found, contestant.name), found[contestant.name]["rounds"]
        speeds = [1 / value for value in own]
        loss = found[contestant.name]["loss"]
        rows.append((
            contestant.title,
            f"{statistics.median(speeds):.1f} ({min(speeds):.1f} to {max(speeds):.1f})",
            str(ratio(own, seconds(found, base))),
            f"{sum(r['padded'] for r in rounds) / sum(r['examples'] for r in rounds):.0f}",
            f"{max(r['peak_memory'] for r in rounds) / 2**20:,.0f}",
            "" if loss is None else f"{loss:.4f}",
        ))  # fmt: skip
    return table(
        ("contestant", "examples/s", "times row 3.3's time", "padded tokens an example", "peak MiB", "first loss"), rows
    )


def _objectives(results: dict[str, Any]) -> str:
    ratios = by_objective(results["objectives"], results["turns"])
    rows = []
    for name, step in ratios.items():
        recorded = results["recorded"][name]
        rows.append((f"`{name}`", str(step), recorded["reads"], f"{recorded['bytes'] / 1000:,.1f}"))
    setting = (
        "Soft labels and one objective, a layer map of all student layers, options as declared; the step as a multiple "
        "of that of soft labels alone.\n\n"
    )
    return setting + table(("objective", "step", "recorded of the teacher", "kB an example"), rows)


def _ablation(results: dict[str, Any]) -> str:
    found = results["ablation"]
    epochs, per_layer = results["curriculum"]["epochs"], results["curriculum"]["epochs_per_layer"]
    complete = {
        name: complete_curriculum(found, name, epochs, per_layer)
        for name in ("progressive", "untruncated")
        if name in found
    }
    base = seconds(found, "row_33")
    rows = [
        (without, str(ratio(seconds(found, name), base)))
        for name, without in _WITHOUT.items()
        if name in found and name not in complete
    ]
    if len(complete) == 2:
        rows.append((_WITHOUT["untruncated"], str(ratio(complete["untruncated"], complete["progressive"]))))
    if "compiled" in found:
        rows.append((_COMPILED, str(ratio(seconds(found, "compiled"), base))))
    return table(("without", "times as long"), rows)


_WITHOUT = {
    "recomputed": "the recorded teacher (computed at every step), row 3.3",
    "unbucketed": "length buckets (shuffled, padded to the longest of a batch), row 3.3",
    "torch_dropout": "fast dropout (torch's), row 3.3",
    "full_vocabulary": "training only the used rows of the vocabulary, row 3.3",
    "freed_memory": "keeping freed memory for the next step, row 3.3",
    "untruncated": "truncated stages, the complete progressive curriculum",
}
_COMPILED = "nothing, but linear-GELU-linear through `torch.compile`, row 3.3"


def _losses(results: dict[str, Any]) -> str:
    named = {c.title: c.losses for c in GROUPS["comparison"] if c.name in results["comparison"]}
    return table(("contestant", "losses"), list(named.items()))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [" | ".join(heads), "|".join("---" for _ in heads), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines) + "\n"
