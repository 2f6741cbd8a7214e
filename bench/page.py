"""The measured part of docs/explanation/performance.md; what stands outside its marks is written by hand and stays."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.contestants import GROUPS
from bench.targets import Found, ratio, seconds, targets, whole_curriculum

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
    """Return everything that was measured, as Markdown."""
    parts = [_setting(results), "### Targets\n", _targets(results)]
    for group, title in _TITLES.items():
        if group in results:
            parts += [f"### {title}\n", _speeds(results[group], group)]
    if "ablation" in results:
        parts += ["### What each part is worth\n", _ablation(results)]
    parts += ["### What the losses are\n", _losses(results)]
    return "\n".join(parts)


_TITLES = {"comparison": "Contestants, fp32", "bf16": "Contestants, bf16"}


def _setting(results: dict[str, Any]) -> str:
    machine, work, versions = results["machine"], results["workload"], results["versions"]
    where = machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads per contestant"
    lengths = results["lengths"]
    rounds = len(next(iter(results["comparison"].values()))["rounds"])
    lines = [
        f"- Machine: {where}; {machine['memory_gb']:.0f} GB; {machine['system']}; "
        f"load before the start {machine['load']:.1f}.",
        "- Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        f"- Command: `{results['command']}`, {results['day']}.",
        f"- A teacher of {work['teacher_layers']} layers, student of {work['student_layers']}, width {work['width']}, "
        f"{work['heads']} heads, random weights, dropout 0.1; batches of {work['batch_size']}.",
        f"- {work['examples']:,} examples of random words (Zipf), lengths log-normal: mean {lengths['mean']:.1f}, "
        f"longest {lengths['longest']}.",
        f"- {rounds} rounds of {work['steps']} steps in turn (A B C ... A B C ...), {work['warm_up']} of warm-up.",
        "- Speeds are medians over rounds; ratios are taken round by round: median (lowest to highest).",
    ]
    return "\n".join(lines) + "\n"


def _targets(results: dict[str, Any]) -> str:
    rows = [(t.what, t.wanted, t.figure, "reached" if t.reached else "**not reached**") for t in targets(results)]
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


def _ablation(results: dict[str, Any]) -> str:
    found = results["ablation"]
    epochs, per_layer = results["curriculum"]["epochs"], results["curriculum"]["epochs_per_layer"]
    whole = {n: whole_curriculum(found, n, epochs, per_layer) for n in ("progressive", "untruncated") if n in found}
    base = seconds(found, "row_33")
    rows = [
        (without, str(ratio(seconds(found, name), base)))
        for name, without in _WITHOUT.items()
        if name in found and name not in whole
    ]
    if len(whole) == 2:
        rows.append((_WITHOUT["untruncated"], str(ratio(whole["untruncated"], whole["progressive"]))))
    if "compiled" in found:
        rows.append((_COMPILED, str(ratio(seconds(found, "compiled"), base))))
    return table(("without", "times as long"), rows)


_WITHOUT = {
    "recomputed": "the recorded teacher (computed at every step), row 3.3",
    "unbucketed": "length buckets (shuffled, padded to the longest of a batch), row 3.3",
    "torch_dropout": "quick dropout (torch's), row 3.3",
    "whole_vocabulary": "training only the used rows of the vocabulary, row 3.3",
    "untruncated": "truncated stages, the whole progressive curriculum",
}
_COMPILED = "nothing, but linear-GELU-linear through `torch.compile`, row 3.3"


def _losses(results: dict[str, Any]) -> str:
    named = {c.title: c.losses for c in GROUPS["comparison"] if c.name in results["comparison"]}
    return table(("contestant", "losses"), list(named.items()))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [" | ".join(heads), "|".join("---" for _ in heads), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines) + "\n"
