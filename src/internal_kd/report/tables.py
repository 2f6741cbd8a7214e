"""Tables as people read them: texts laid out from frames, for the page, as Markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from internal_kd.files import write_text
from internal_kd.plan.study import Study
from internal_kd.report.cells import FULL, axis_columns, primary_rows
from internal_kd.report.frames import tables_folder, value_or_none
from internal_kd.report.words import (
    DASH,
    axis_title,
    base_metric,
    interval,
    is_known,
    metric_title,
    millions,
    p_text,
    percent,
    seeds_of,
    shown,
    with_spread,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

# A LaTeX tabular cannot break over pages.
LINES_PER_PAGE = 40
NEW, SAME = "new examples", "dev set"


class Strong(str):
    """A text that is printed bold."""


@dataclass(frozen=True)
class Shown:
    """A table as people read it.

    Attributes:
        name: of its CSV file; empty if it has none.
        header: the columns' titles.
        lines: texts, as many as columns in each.
        align: ``l`` or ``r`` per column.
        note: what a reader must know to read it, one or two sentences.
        rules: the lines before which a rule is drawn.
    """

    name: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    align: str
    note: str = ""
    rules: tuple[int, ...] = ()


def markdown(table: Shown) -> str:
    """Return a table and its note as Markdown."""
    rows = [table.header, tuple("--:" if a == "r" else "---" for a in table.align), *table.lines]
    return "\n".join([*("| " + " | ".join(map(_pipe, row)) + " |" for row in rows), "", table.note]).rstrip() + "\n"


def _pipe(text: str) -> str:
    plain = " ".join(text.split()).replace("|", "\\|")
    return f"**{plain}**" if isinstance(text, Strong) else plain


def latex(table: Shown) -> str:
    """Return a booktabs tabular to \\input, a longtable if a page is too short; packages and note are comments."""
    is_long = len(table.lines) > LINES_PER_PAGE
    environment, packages = ("longtable", "booktabs,longtable") if is_long else ("tabular", "booktabs")
    out = [f"% needs \\usepackage{{{packages}}}", f"\\begin{{{environment}}}{{{table.align}}}", "\\toprule"]
    out += [_tex_line(table.header), "\\midrule", *(["\\endhead"] if is_long else [])]
    for place, line in enumerate(table.lines):
        out += ["\\midrule"] if place in table.rules and place else []
        out.append(_tex_line(line))
    note = [f"% {' '.join(table.note.split())}"] if table.note else []
    return "\n".join([*out, "\\bottomrule", f"\\end{{{environment}}}", *note]) + "\n"


# "<", ">" and "|" are other characters in LaTeX's default font encoding; "[" after a line's end would be its argument.
_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "−": "$-$", "[": "{[}",
    "]": "{]}", "<": "$<$", ">": "$>$", "|": "$|$", "×": r"$\times$", "∞": r"$\infty$", "α": r"$\alpha$",
    "→": r"$\to$",
}  # fmt: skip


def _tex_line(texts: Sequence[str]) -> str:
    return " & ".join(map(_tex, texts)) + " \\\\"


def _tex(text: str) -> str:
    plain = " ".join(text.split())
    escaped = re.sub("|".join(re.escape(c) for c in _TEX), lambda match: _TEX[match.group()], plain)
    return f"\\textbf{{{escaped}}}" if isinstance(text, Strong) else escaped


def write_shown(study: Study, table: Shown) -> None:
    """Write ``tables/<name>.md`` and ``.tex``."""
    write_text(tables_folder(study) / f"{table.name}.md", markdown(table))
    write_text(tables_folder(study) / f"{table.name}.tex", latex(table))


@dataclass(frozen=True)
class Layout:
    """What all tables of a study share: titles of tasks and rows, the columns of varied keys."""

    study: Study
    tasks: pd.DataFrame

    @cached_property
    def _titles(self) -> dict[str, str]:
        return dict(zip(self.tasks["task"], self.tasks["title"], strict=True))

    @cached_property
    def _metrics(self) -> dict[str, str]:
        return dict(zip(self.tasks["task"], self.tasks["metric"], strict=True))

    def task(self, name: str) -> str:
        """Return a task's title."""
        return self._titles.get(name, name)

    def main_metric(self, task: str) -> str:
        """Return the column of a task's main metric."""
        return self._metrics[task]

    def row(self, line: pd.Series) -> str:
        """Return what people call a line's row: ``3.5 Stacked (SID)``."""
        method = self.study.methods.get(line["method"])
        return f"{line['id']} {method.title if method else line.get('title', line['method'])}".strip()

    @property
    def point_header(self) -> tuple[str, ...]:
        """The columns of what the study varies."""
        return tuple(axis_title(axis) for axis in axis_columns(self.study))

    def point(self, line: pd.Series) -> tuple[str, ...]:
        """Return a line's values of what the study varies."""
        return tuple(str(line[axis]) for axis in axis_columns(self.study))

    def of_main(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the lines under each task's main metric."""
        return frame[frame["metric"] == frame["task"].map(self._metrics)]

    def build(
        self,
        name: str,
        frame: pd.DataFrame,
        columns: dict[str, Callable[[pd.Series], str]],
        note: str = "",
        *,
        left: int = 2,
        task: bool = True,
    ) -> Shown:
        """Return a table with a line per line of a frame: task, row, varied keys, and ``columns`` by title."""
        head = (("task",) if task else ()) + ("method", *self.point_header)
        lines = tuple(
            ((self.task(line["task"]),) if task else ())
            + (self.row(line), *self.point(line))
            + tuple(text(line) for text in columns.values())
            for _, line in frame.iterrows()
        )
        return Shown(
            name, (*head, *columns), lines, "l" * len(head) + "l" * (left - 2) + "r" * (len(columns) - left + 2), note
        )


MAIN_NOTE = (
    "Dev scores × 100, mean ± standard deviation over seeds. Parameters: encoder and pooler, without embeddings. "
    "Bold: better than {baseline} on new examples too."
)


def main_table(layout: Layout, main: pd.DataFrame, comparisons: pd.DataFrame, *, all_metrics: bool = True) -> Shown:
    """Return the main table, laid out like the paper's: rows are methods, columns tasks; bold only where decided."""
    axes = axis_columns(layout.study)
    won = comparisons[
        (comparisons["family"] == "primary") & (comparisons["scope"] == NEW) & (comparisons["reading"] == "better")
    ]
    bold = {(line["task"], line["metric"], line["method"], *layout.point(line)) for _, line in won.iterrows()}
    columns = []
    for task in layout.study.tasks:
        metrics = list(dict.fromkeys(main[main["task"] == task]["metric"]))
        columns += [(task, metric) for metric in (metrics if all_metrics else metrics[:1])]
    seeds = main.groupby(["method", *axes], sort=False)[["seeds", "planned"]].agg(["min", "max"])
    uniform = len({tuple(values) for values in seeds.itertuples(index=False)}) == 1
    sizes = ("examples",) if (main["examples"] != FULL).any() and "select.keep" not in axes else ()
    others = tuple(axis for axis in axes if axis != "learner.layers")
    header = (
        "method", "layers", "parameters", *map(axis_title, others), *sizes, *(() if uniform else ("seeds",)),
        *(f"{layout.task(task)}, {metric_title(metric)}" for task, metric in columns),
    )  # fmt: skip
    lines = []
    for _, own in main.groupby(["method", *axes], sort=False):
        first = own.iloc[0]
        depth, parameters = value_or_none(first["depth"]), own["encoder_parameters"].dropna()
        number = int(parameters.iloc[0]) if len(parameters) else None
        texts = [layout.row(first), DASH if depth is None else str(depth), millions(number)]
        texts += [*(str(first[axis]) for axis in others), *(str(first[size]) for size in sizes)]
        texts += [] if uniform else [_seeds_text(own)]
        for task, metric in columns:
            found = own[(own["task"] == task) & (own["metric"] == metric)]
            texts.append(_score_text(found.iloc[0], bold, layout) if len(found) else "")
        lines.append(tuple(texts))
    teachers = sum(
        1 for name, method in layout.study.methods.items() if not method.needs_teacher and _teaches(layout, name)
    )
    majority = ["Majority class", "", "", *("" for _ in (*others, *sizes)), *([] if uniform else [""])]
    for task, metric in columns:
        values = main[(main["task"] == task) & (main["metric"] == metric)]["majority"].dropna()
        majority.append(shown(metric, float(values.iloc[0])) if len(values) else DASH)
    baseline = primary_rows(layout.study)[1]
    name = layout.study.methods[baseline].title if baseline else "the baseline"
    row = f"{layout.study.methods[baseline].id} {name}" if baseline else name
    planned = main["planned"].max()
    note = MAIN_NOTE.format(baseline=row) + (f" {int(planned)} seeds each." if uniform and planned > 1 else "")
    align = "lrr" + "r" * (len(header) - 3)
    return Shown("main", header, (*lines, tuple(majority)), align, note, rules=(teachers, len(lines)))


def _teaches(layout: Layout, method: str) -> bool:
    return any(run.teaches for run in layout.study.runs if run.method.name == method)


def _seeds_text(own: pd.DataFrame) -> str:
    texts = {seeds_of(int(s), int(p)) for s, p in zip(own["seeds"], own["planned"], strict=True)}
    return " / ".join(sorted(texts))


def _score_text(line: pd.Series, bold: set[tuple[str, ...]], layout: Layout) -> str:
    if not line["seeds"]:
        return "not run"
    if not is_known(line["mean"]):
        return "undefined"
    text = with_spread(line["metric"], line["mean"], line["std"])
    key = (line["task"], line["metric"], line["method"], *layout.point(line))
    return Strong(text) if key in bold else text


def comparisons_table(layout: Layout, comparisons: pd.DataFrame, name: str = "comparisons") -> Shown:
    """Return comparisons, both scopes on one line."""
    keys = ["task", "metric", "id", "method", *axis_columns(layout.study), "baseline"]
    same = comparisons[comparisons["scope"] == SAME].set_index(keys, drop=False)
    new = comparisons[comparisons["scope"] == NEW]

    def asked(line: pd.Series) -> str:
        seeds = int(min(line["seeds"], line["baseline_seeds"]))
        between = interval(line["metric"], line["low"], line["high"], seeds, difference=True)
        return line["reading"] if between == DASH else f"{between}, p {p_text(line['p_holm'])}: {line['reading']}"

    columns: dict[str, Callable[[pd.Series], str]] = {
        "against": lambda line: str(line["baseline_id"]),
        "metric": lambda line: metric_title(line["metric"]),
        "on this dev set": lambda line: asked(same.loc[tuple(line[key] for key in keys)]),
        "on new examples too": asked,
        "lead": lambda line: shown(line["metric"], line["difference"], sign=True),
    }
    if (new["family"] == "primary").all():
        columns |= {
            "seeds needed": _needed,
            "smallest lead shown": lambda line: shown(line["metric"], line["smallest"]),
        }
    if new["p_predictions"].notna().any():
        columns["paper's p"] = lambda line: p_text(line["p_predictions"])
    note = (
        "95 % intervals; p after Holm's correction over the family. Seeds needed: of each method, if the estimates "
        "stayed. Smallest lead shown: what a study like this shows four times in five. The paper's p: paired over "
        "predictions (McNemar), median over pairs of equal seeds."
    )
    return layout.build(name, new, columns, note, left=6)


def _needed(line: pd.Series) -> str:
    if line["reading"] != "undecided":
        return DASH
    needed = value_or_none(line["seeds_needed"])
    return "more seeds would not do" if needed is None else f"{int(needed):,}"


def pooled_table(layout: Layout, pooled: pd.DataFrame) -> Shown:
    """Return the mean leads over tasks."""
    columns: dict[str, Callable[[pd.Series], str]] = {
        "against": lambda line: str(line["baseline_id"]),
        "scope": lambda line: str(line["scope"]),
        "tasks": lambda line: str(line["tasks"]),
        "mean lead": lambda line: shown("accuracy", line["difference"], sign=True),
        "95 % interval": lambda line: interval("accuracy", line["low"], line["high"], 2, difference=True),
        "p": lambda line: p_text(line["p_holm"]),
        "reading": lambda line: str(line["reading"]),
    }
    return layout.build(
        "pooled", pooled, columns, "Mean over tasks of the lead in the main metric, in points.", left=4, task=False
    )


def efficiency_table(layout: Layout, efficiency: pd.DataFrame, main: pd.DataFrame) -> Shown:
    """Return sizes, times and scores against the teacher's."""
    lines = layout.of_main(efficiency)
    keys = ["task", "metric", "method", *axis_columns(layout.study)]
    lines = lines.merge(main[[*keys, "encoder_parameters", "mean", "std"]], on=keys, how="left")
    measured = lines["latency_ms"].notna().any()
    columns: dict[str, Callable[[pd.Series], str]] = {
        "parameters": lambda line: millions(value_or_none(line["encoder_parameters"])),
        "of the teacher's": lambda line: percent(line["encoder_share"]),
        "with embeddings": lambda line: percent(line["total_share"]),
        "score": lambda line: with_spread(line["metric"], line["mean"], line["std"]),
        "of the teacher's ": lambda line: percent(line["teacher_share"]),
        "distillation score": lambda line: (
            f"{line['distillation_score']:.3f}" if is_known(line["distillation_score"]) else DASH
        ),
        "training, s": lambda line: f"{line['training_seconds']:,.0f}" if is_known(line["training_seconds"]) else DASH,
    }
    if measured:
        columns |= {
            "ms, 1 example": lambda line: f"{line['latency_ms']:.1f}" if is_known(line["latency_ms"]) else DASH,
            "faster": lambda line: f"{line['speed_up']:.1f}×" if is_known(line["speed_up"]) else DASH,
            "ms, 32": lambda line: f"{line['latency_batch_ms']:.0f}" if is_known(line["latency_batch_ms"]) else DASH,
        }
    machines = sorted({text for text in lines["machine"] if text})
    where = (
        f" Milliseconds: median forward pass at the median dev length, fp32, one thread of {'; '.join(machines)}."
        if machines
        else ""
    )
    alpha = layout.study.params.analysis.distillation_alpha
    note = (
        f"Distillation score: {alpha:g} × parameters as a share of the teacher's + {1 - alpha:g} × the share of its score "
        f"that is lost; lower is better (Alkhulaifi et al. 2021). Training: median over seeds.{where}"
    )
    return layout.build("efficiency", lines, columns, note)


def fidelity_table(layout: Layout, fidelity: pd.DataFrame) -> Shown:
    """Return rows beside their teachers."""
    columns: dict[str, Callable[[pd.Series], str]] = {
        "seeds": lambda line: str(line["seeds"]),
        "agreement": lambda line: percent(line["agreement"], 1),
        "KL": lambda line: f"{line['divergence']:.3f}" if is_known(line["divergence"]) else DASH,
        "both right": lambda line: _part(line, "both_right"),
        "teacher only": lambda line: _part(line, "only_teacher_right"),
        "student only": lambda line: _part(line, "only_student_right"),
        "none": lambda line: _part(line, "both_wrong"),
        "mistakes repeated": lambda line: percent(line["repeated"]),
        "by chance": lambda line: percent(line["by_chance"]),
        "p": lambda line: p_text(line["p_repeated_holm"]),
    }
    note = (
        "Each student beside the teacher that it learned from (row 2.0: beside the same one), means over seeds. KL: "
        "KL(teacher || student) in nats; for values the mean squared difference. Repeated: share of the teacher's "
        "mistakes to which the student gives the same wrong answer; by chance: what its own errors within each class "
        "would make of it. p: generalised Cochran-Mantel-Haenszel test, after Holm's correction."
    )
    return layout.build("fidelity", fidelity, columns, note)


def _part(line: pd.Series, name: str) -> str:
    parts = ("both_right", "only_teacher_right", "only_student_right", "both_wrong")
    if value_or_none(line[name]) is None:
        return DASH
    return percent(line[name] / sum(line[part] for part in parts))


def calibration_table(layout: Layout, calibration: pd.DataFrame) -> Shown:
    """Return calibration errors."""
    columns: dict[str, Callable[[pd.Series], str]] = {
        "seeds": lambda line: str(line["seeds"]),
        "error": lambda line: with_spread("accuracy", line["ece"], line["ece_std"]),
        "mean confidence": lambda line: percent(line["confidence"], 1),
        "accuracy": lambda line: percent(line["accuracy"], 1),
    }
    note = (
        "Expected calibration error of the top label × 100, 15 bins of equal width (Guo et al. 2017); 0 is perfect. "
        "Confidence above accuracy is overconfidence."
    )
    return layout.build("calibration", calibration, columns, note)


def classes_table(layout: Layout, classes: pd.DataFrame) -> Shown:
    """Return scores per class."""
    columns: dict[str, Callable[[pd.Series], str]] = {
        "class": lambda line: str(line["label"]),
        "examples": lambda line: str(line["examples_of_class"]),
        **{name: lambda line, n=name: percent(line[n], 1) for name in ("precision", "recall", "f1")},  # type: ignore[misc]
    }
    return layout.build("classes", classes, columns, "Means over seeds.", left=3)


def confusion_table(layout: Layout, confusion: pd.DataFrame, task: str) -> Shown:
    """Return a task's confusion matrices: of every gold class, the share given each answer."""
    own = confusion[confusion["task"] == task]
    answers = tuple(dict.fromkeys(own["predicted"]))
    keys = ["id", "method", *axis_columns(layout.study), "gold"]
    lines = []
    for _, group in own.groupby(keys, sort=False):
        first, shares = group.iloc[0], dict(zip(group["predicted"], group["share"], strict=True))
        lines.append((layout.row(first), *layout.point(first), first["gold"], *(percent(shares[a]) for a in answers)))
    header = ("method", *layout.point_header, "gold class", *(f"said {answer}" for answer in answers))
    align = "l" * (2 + len(layout.point_header)) + "r" * len(answers)
    return Shown("confusion", header, tuple(lines), align, f"{layout.task(task)}. Shares of the gold class, all seeds.")


def phenomena_table(layout: Layout, phenomena: pd.DataFrame, task: str) -> Shown:
    """Return a generated task's accuracy by phenomenon: rows are phenomena, columns methods."""
    own = phenomena[phenomena["task"] == task]
    names = list(dict.fromkeys(layout.row(line) for _, line in own.iterrows()))
    lines = []
    for phenomenon, group in own.groupby("phenomenon", sort=False):
        values = {layout.row(line): percent(line["accuracy"]) for _, line in group.iterrows()}
        lines.append(
            (
                str(phenomenon).replace("_", " "),
                str(group["dev_examples"].iloc[0]),
                *(values.get(n, DASH) for n in names),
            )
        )
    header = ("phenomenon", "examples", *(name.split(" ")[0] for name in names))
    return Shown(
        "phenomena", header, tuple(lines), "lr" + "r" * len(names), f"{layout.task(task)}. Accuracy, mean over seeds."
    )


def disagreements_table(layout: Layout, frame: pd.DataFrame, task: str, method: str) -> Shown:
    """Return dev examples that a row and its teacher judge differently."""
    own = frame[(frame["task"] == task) & (frame["method"] == method)]
    lines = tuple(
        (" / ".join(filter(None, (line["text_a"], line["text_b"]))), line["gold"], line["teacher"],
         f"{line['student']} ({line['seeds_differing']} of {line['seeds']})")
        for _, line in own.iterrows()
    )  # fmt: skip
    row = layout.row(own.iloc[0]) if len(own) else method
    note = f"{layout.task(task)}, {row}: dev examples on which most seeds differ from the teacher and one of them is right."
    return Shown("", ("text", "gold", "teacher", "student (seeds that differ)"), lines, "llll", note)


def attention_table(study: Study, means: pd.DataFrame) -> Shown:
    """Return the attention distances; tasks go by their names, since nothing but weights need be there."""
    columns: dict[str, Callable[[pd.Series], str]] = {
        "seed": lambda line: str(value_or_none(line["seed"]) or DASH),
        "KL": lambda line: f"{line['kl']:.3f}" if is_known(line["kl"]) else line["problem"],
        "95 % interval": lambda line: f"{line['low']:.3f} to {line['high']:.3f}" if is_known(line["low"]) else DASH,
        "times the baseline's": lambda line: (
            f"{line['ratio']:.2f} ({line['ratio_low']:.2f} to {line['ratio_high']:.2f})"
            if is_known(line["ratio"])
            else DASH
        ),
    }
    note = (
        "KL(teacher || student) of attention in nats, over real queries, heads, matched layers and dev examples; the "
        "interval is over examples. One student a row: the first seed whose weights are kept."
    )
    header = ("task", "method", *map(axis_title, axis_columns(study)), *columns)
    lines = tuple(
        (line["task"], f"{line['id']} {line['title']}".strip(), *(str(line[axis]) for axis in axis_columns(study)))
        + tuple(text(line) for text in columns.values())
        for _, line in means.iterrows()
    )
    return Shown("attention_means", header, lines, "l" * (len(header) - 4) + "rrrr", note)


def best_table(layout: Layout, best: pd.DataFrame) -> Shown:
    """Return the expected best of k seeds."""
    own = layout.of_main(best)
    most = int(own["k"].max()) if len(own) else 0
    ks = [k for k in range(1, most + 1) if k <= 5 or k == most]
    keys = ["task", "metric", "id", "method", *axis_columns(layout.study)]
    lines = []
    for _, group in own.groupby(keys, sort=False):
        first, values = group.iloc[0], dict(zip(group["k"], group["value"], strict=True))
        texts = (shown(first["metric"], values.get(k)) for k in ks)
        lines.append((layout.task(first["task"]), layout.row(first), *layout.point(first), *texts))
    header = ("task", "method", *layout.point_header, *(f"k = {k}" for k in ks))
    note = "Mean of the best dev score among k seeds drawn with replacement (Dodge et al. 2019): what keeping the best of k would report."
    return Shown("expected_best", header, tuple(lines), "l" * (2 + len(layout.point_header)) + "r" * len(ks), note)


def claims_table(claims: pd.DataFrame) -> Shown:
    """Return claims with their verdicts."""
    lines = tuple(
        (line["claim"], line["verdict"], " ".join(filter(None, (line["evidence"], line["needed"]))), line["status"])
        for _, line in claims.iterrows()
    )
    note = "Status: [paper] stated there, [repo] in its authors' code, [secondary] known from another's account only."
    return Shown("claims", ("claim", "verdict", "evidence", "status"), lines, "llll", note)


def published_table(layout: Layout, published: pd.DataFrame) -> Shown:
    """Return published figures beside ours."""
    lines = tuple(
        (
            line["system"], layout.task(line["task"]), metric_title(line["metric"]) if line["metric"] else "not stated",
            line["rows"], f"{line['published']:.2f}",
            with_spread(base_metric(line["metric"]), line["ours"], line["std"]) if is_known(line["ours"]) else DASH,
            line["differs"] or DASH, line["status"],
        )
        for _, line in published.iterrows()
    )  # fmt: skip
    header = ("system", "task", "metric", "our rows", "published", "ours", "differs in", "status")
    note = "Of several rows the best. Ours are left out where task, data, encoder, depth or training-set size differ."
    return Shown("published", header, lines, "llllrrll", note)
