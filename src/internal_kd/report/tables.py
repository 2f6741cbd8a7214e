"""Every table that people read, laid out from its frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internal_kd.plan.study import Study
from internal_kd.report.cells import FULL, primary_rows
from internal_kd.report.frames import value_or_none
from internal_kd.report.layout import Layout, Shown, Strong, Text, number, p_value, plain, score, share
from internal_kd.report.words import (
    DASH,
    axis_title,
    base_metric,
    bounds_of,
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
    import pandas as pd

# What a model that ignores its input answers.
CONSTANT = {"classes": "majority class", "values": "mean of the labels"}
# Classes of a task up to which every one is shown, and how many pairs or classes are shown of more.
MOST_CLASSES, SHOWN_CLASSES = 12, 10
NEW, SAME = "new examples", "dev set"
NOTES = {
    "main": "Dev scores × 100, mean ± standard deviation over seeds. Parameters: encoder and pooler, without "
    "embeddings.",
    "comparisons": "95 % intervals; p after Holm's correction over the family. Seeds needed: of each method, if the "
    "estimates stayed. Smallest lead shown: what a study like this shows four times in five. The paper's p: paired "
    "over predictions (McNemar), median over pairs of equal seeds.",
    "pooled": "Mean over tasks of the lead in the main metric, in points.",
    "efficiency": "Shares are of the teacher's. Distillation score: {alpha:g} × the share of the parameters + "
    "{rest:g} × the share of the score that is lost; lower is better (Alkhulaifi et al. 2021). Training: median over "
    "seeds. Step: time of a training step over that of the baseline, all stages of a curriculum counted. Recorded: "
    "bytes of the teacher's answers that the row reads, for one example.",
    "latency": " Milliseconds: median forward pass at the median dev length, fp32, one thread of {machines}.",
    "fidelity": "Each student beside the teacher that it learned from (row 2.0: beside the same one), means over "
    "seeds. KL: KL(teacher || student) in nats; for values the mean squared difference. Repeated: share of the "
    "teacher's mistakes to which the student gives the same wrong answer; by chance: what its own errors within each "
    "class would make of it. p: generalised Cochran-Mantel-Haenszel test, after Holm's correction.",
    "calibration": "Expected calibration error of the top label × 100, 15 bins of equal width (Guo et al. 2017); 0 "
    "is perfect. Confidence above accuracy is overconfidence.",
    "attention": "KL(teacher || student) of attention in nats, over real queries, heads, matched layers and dev "
    "examples; the interval is over examples. One student a row: the first seed whose weights are kept.",
    "best": "Mean of the best dev score among k seeds drawn with replacement (Dodge et al. 2019): what keeping the "
    "best of k would report.",
    "claims": "Status: [paper] stated there, [repo] in its authors' code, [secondary] known from another's account.",
    "published": "Of several rows the best. Ours are left out where task, data, encoder, learner or training-set "
    "size differ.",
}


def main_table(layout: Layout, main: pd.DataFrame, comparisons: pd.DataFrame, *, all_metrics: bool = True) -> Shown:
    """Return the main table, laid out like the paper's: rows are methods, columns tasks; bold only where decided."""
    axes = layout.study.axes
    columns = []
    for task in layout.study.tasks:
        metrics = list(dict.fromkeys(main[main["task"] == task]["metric"]))
        columns += [(task, metric) for metric in (metrics if all_metrics else metrics[:1])]
    planned, finished = main["planned"], main["seeds"]
    uniform = planned.nunique() == 1 and (planned == finished).all()
    sizes = ("examples",) if (main["examples"] != FULL).any() and "select.keep" not in axes else ()
    extra = (*(axis for axis in axes if axis != "learner.layers"), *sizes)
    lines, bold = [], _bold(layout, comparisons)
    for _, own in main.groupby(["method", *axes], sort=False):
        first = own.iloc[0]
        parameters = own["encoder_parameters"].dropna()
        texts = [
            layout.row(first),
            plain("depth")(first),
            millions(int(parameters.iloc[0]) if len(parameters) else None),
        ]
        texts += [*(str(first[column]) for column in extra), *([] if uniform else [_seeds_text(own)])]
        for task, metric in columns:
            found = own[(own["task"] == task) & (own["metric"] == metric)]
            texts.append(_score_text(layout, found.iloc[0], bold) if len(found) else "")
        lines.append(tuple(texts))
    kinds = set(layout.tasks["kind"])
    constant = " or ".join(CONSTANT[kind] for kind in CONSTANT if kind in kinds).capitalize()
    majority = [constant, *[""] * (2 + len(extra) + (not uniform))]
    for task, metric in columns:
        values = main[(main["task"] == task) & (main["metric"] == metric)]["majority"].dropna()
        majority.append(shown(metric, float(values.iloc[0])) if len(values) else DASH)
    header = (
        "method", "layers", "parameters", *map(axis_title, extra), *(() if uniform else ("seeds",)),
        *(f"{layout.task(task)}, {metric_title(metric)}" for task, metric in columns),
    )  # fmt: skip
    note = (
        NOTES["main"] + _bold_note(layout) + (f" {planned.max()} seeds each." if uniform and planned.max() > 1 else "")
    )
    if any("undefined" in line for line in lines):
        note += " Undefined: the correlation of predictions, or of labels, that are all equal."
    teachers = {run.method.name for run in layout.study.runs if run.teaches and run.answers is None}
    return Shown(
        "main",
        header,
        (*lines, tuple(majority)),
        "l" + "r" * (len(header) - 1),
        note,
        rules=(len(teachers), len(lines)),
        fixed=3 + len(extra) + (not uniform),
    )


def summary_table(layout: Layout, main: pd.DataFrame, pooled: pd.DataFrame) -> Shown:
    """Return the main table of many tasks: rows with their mean score over tasks and their mean lead."""
    axes, lines = layout.study.axes, []
    own, new = layout.of_main(main), pooled[pooled["scope"] == NEW]
    for _, group in own.groupby(["method", *axes], sort=False):
        first, known = group.iloc[0], group["encoder_parameters"].dropna()
        leads = new[(new["method"] == first["method"]) & (new[list(axes)] == first[list(axes)]).all(axis=1)]
        lead = leads.iloc[0] if len(leads) else None
        mean = shown("accuracy", group["mean"].mean(skipna=False))
        text = DASH
        if lead is not None:
            between = interval("accuracy", lead["low"], lead["high"], 2, difference=True)
            text = f"{shown('accuracy', lead['difference'], sign=True)} ({between})"
        better = lead is not None and lead["reading"] == "better"
        parameters = millions(int(known.iloc[0]) if len(known) else None)
        named = (layout.row(first), *layout.point(first), plain("depth")(first), parameters)
        lines.append((*named, mean, Strong(text) if better else text))
    header = ("method", *layout.point_header, "layers", "parameters", "mean score", "mean lead")
    note = f"Means over the main metrics of {len(layout.study.tasks)} tasks, × 100; every task: All metrics."
    return Shown("pooled", header, tuple(lines), "l" + "r" * (len(header) - 1), note + _bold_note(layout))


def _bold(layout: Layout, comparisons: pd.DataFrame) -> set[tuple[str, ...]]:
    won = comparisons[
        (comparisons["family"] == "primary") & (comparisons["scope"] == NEW) & (comparisons["reading"] == "better")
    ]
    return {(line["task"], line["metric"], line["method"], *layout.point(line)) for _, line in won.iterrows()}


def _bold_note(layout: Layout) -> str:
    rows, baseline = primary_rows(layout.study)
    if baseline is None or not rows:
        return ""
    method = layout.study.methods[baseline]
    return f" Bold: better than {method.id} {method.title} on new examples too."


def _seeds_text(own: pd.DataFrame) -> str:
    texts = {seeds_of(int(s), int(p)) for s, p in zip(own["seeds"], own["planned"], strict=True)}
    return " / ".join(sorted(texts))


def _score_text(layout: Layout, line: pd.Series, bold: set[tuple[str, ...]]) -> str:
    if not line["seeds"]:
        return "not run"
    if not is_known(line["mean"]):
        return "undefined"
    text = with_spread(line["metric"], line["mean"], line["std"])
    key = (line["task"], line["metric"], line["method"], *layout.point(line))
    return Strong(text) if key in bold else text


def comparisons_table(layout: Layout, comparisons: pd.DataFrame) -> Shown:
    """Return comparisons, both scopes on one line."""
    keys = ["task", "metric", "id", "method", *layout.study.axes, "baseline"]
    same = comparisons[comparisons["scope"] == SAME].set_index(keys, drop=False)
    new = comparisons[comparisons["scope"] == NEW]

    def asked(line: pd.Series) -> str:
        seeds = int(min(line["seeds"], line["baseline_seeds"]))
        between = interval(line["metric"], line["low"], line["high"], seeds, difference=True)
        return line["reading"] if between == DASH else f"{between}, p {p_text(line['p_holm'])}: {line['reading']}"

    columns: dict[str, Text] = {
        "against": plain("baseline_id"),
        "metric": lambda line: metric_title(line["metric"]),
        "on this dev set": lambda line: asked(same.loc[tuple(line[key] for key in keys)]),
        "on new examples too": asked,
        "lead": lambda line: shown(line["metric"], line["difference"], sign=True),
    }
    if (new["family"] == "primary").all():
        columns |= {
            "seeds needed": _needed,
            "smallest lead shown": _smallest,
        }
    if new["p_predictions"].notna().any():
        columns["paper's p"] = p_value("p_predictions")
    return layout.build("comparisons", new, columns, NOTES["comparisons"], left=4)


def _needed(line: pd.Series) -> str:
    if line["reading"] != "undecided":
        return DASH
    needed = value_or_none(line["seeds_needed"])
    return "more seeds would not do" if needed is None else f"{int(needed):,}"


def _smallest(line: pd.Series) -> str:
    possible = is_known(line["smallest"]) and line["smallest"] < bounds_of(line["metric"], difference=True)[1] / 2
    return shown(line["metric"], line["smallest"]) if possible else DASH


def pooled_table(layout: Layout, pooled: pd.DataFrame) -> Shown:
    """Return the mean leads over tasks."""
    columns: dict[str, Text] = {
        "against": plain("baseline_id"),
        "scope": plain("scope"),
        "reading": plain("reading"),
        "tasks": plain("tasks"),
        "mean lead": lambda line: shown("accuracy", line["difference"], sign=True),
        "95 % interval": lambda line: interval("accuracy", line["low"], line["high"], 2, difference=True),
        "p": p_value(),
    }
    return layout.build("pooled", pooled, columns, NOTES["pooled"], left=3, task=False)


def efficiency_table(layout: Layout, efficiency: pd.DataFrame, main: pd.DataFrame) -> Shown:
    """Return sizes, times and scores beside the teacher's."""
    keys = ["task", "metric", "method", *layout.study.axes]
    lines = layout.of_main(efficiency).merge(main[[*keys, "encoder_parameters", "mean", "std"]], on=keys, how="left")
    columns: dict[str, Text] = {
        "parameters": lambda line: millions(value_or_none(line["encoder_parameters"])),
        "share": share("encoder_share"),
        "with embeddings": share("total_share"),
        "score": score("mean", "std"),
        "score kept": share("teacher_share"),
        "distillation score": number("distillation_score"),
        "training, s": number("training_seconds", ",.0f"),
        "step": number("step_share", ".2f", "×"),
        "recorded, B": number("recorded_bytes", ",.0f"),
    }
    alpha = layout.study.params.analysis.distillation_alpha
    note = NOTES["efficiency"].format(alpha=alpha, rest=1 - alpha)
    if lines["latency_ms"].notna().any():
        columns |= {"ms, 1 example": number("latency_ms", ".1f"), "faster": number("speed_up", ".1f", "×")}
        columns["ms, 32"] = number("latency_batch_ms", ".0f")
        note += NOTES["latency"].format(machines="; ".join(sorted({text for text in lines["machine"] if text})))
    return layout.build("efficiency", lines, columns, note)


def fidelity_table(layout: Layout, fidelity: pd.DataFrame) -> Shown:
    """Return rows beside their teachers."""
    parts = {"both right": "both_right", "teacher only": "only_teacher_right", "student only": "only_student_right"}
    known = fidelity.assign(examples_=fidelity[[*parts.values(), "both_wrong"]].sum(axis=1, min_count=1))
    for part in parts.values():
        known[part] = known[part].astype("float64") / known["examples_"].astype("float64")
    columns: dict[str, Text] = {
        "seeds": plain("seeds"),
        "agreement": share("agreement", 1),
        "KL": number("divergence"),
        **{title: share(part) for title, part in parts.items()},
        "mistakes repeated": share("repeated"),
        "by chance": share("by_chance"),
        "p": p_value("p_repeated_holm"),
    }
    return layout.build("fidelity", known, columns, NOTES["fidelity"])


def calibration_table(layout: Layout, calibration: pd.DataFrame) -> Shown:
    """Return calibration errors."""
    columns = {
        "seeds": plain("seeds"),
        "error": score("ece", "ece_std", "accuracy"),
        "mean confidence": share("confidence", 1),
        "accuracy": share("accuracy", 1),
    }
    return layout.build("calibration", calibration, columns, NOTES["calibration"])


def classes_table(layout: Layout, classes: pd.DataFrame) -> Shown:
    """Return scores per class; of many classes, those with the lowest F1 of each row."""
    keys = ["task", "method", *layout.study.axes]
    many = classes.groupby(keys)["label"].transform("size") > MOST_CLASSES
    order = classes.groupby(keys)["class_f1"].rank(method="first")
    classes = classes[~many | (order <= SHOWN_CLASSES)]
    note = "Means over seeds." + (f" Of many classes, the {SHOWN_CLASSES} with the lowest F1." if many.any() else "")
    shares = {name: share(f"class_{name}", 1) for name in ("precision", "recall", "f1")}
    columns = {"class": plain("label"), "examples": plain("examples_of_class"), **shares}
    return layout.build("classes", classes, columns, note, left=1)


def confusion_table(layout: Layout, confusion: pd.DataFrame, task: str) -> Shown:
    """Return a task's confusion matrices: of every gold class, the share given each answer; of many, the largest."""
    own = confusion[confusion["task"] == task]
    answers = tuple(dict.fromkeys([*own["gold"], *own["predicted"]]))
    if len(answers) > MOST_CLASSES:
        return _confused_pairs(layout, own, task)
    lines = []
    for _, group in own.groupby(["id", "method", *layout.study.axes, "gold"], sort=False):
        first, shares = group.iloc[0], dict(zip(group["predicted"], group["share"], strict=True))
        lines.append(
            (layout.row(first), *layout.point(first), first["gold"], *(percent(shares.get(a, 0.0)) for a in answers))
        )
    header = ("method", *layout.point_header, "gold class", *(f"answer {answer}" for answer in answers))
    align = "l" * (2 + len(layout.point_header)) + "r" * len(answers)
    note = f"{layout.task(task)}. Shares of the gold class, all seeds."
    return Shown("confusion", header, tuple(lines), align, note, fixed=2 + len(layout.point_header))


def _confused_pairs(layout: Layout, own: pd.DataFrame, task: str) -> Shown:
    mistakes = own[own["gold"] != own["predicted"]]
    columns = {
        "gold class": plain("gold"), "answer": plain("predicted"), "times": plain("count"), "share": share("share"),
    }  # fmt: skip
    note = f"{layout.task(task)}. The {SHOWN_CLASSES} most frequent mistakes of each row; shares of the gold class."
    order = mistakes.groupby(["method", *layout.study.axes], sort=False)["count"].nlargest(SHOWN_CLASSES)
    chosen = mistakes.loc[order.index.get_level_values(-1)]
    return layout.build("confusion", chosen, columns, note, left=2, task=False)


def phenomena_table(layout: Layout, phenomena: pd.DataFrame, task: str) -> Shown:
    """Return a generated task's accuracy by phenomenon: rows are phenomena, columns methods."""
    own = phenomena[phenomena["task"] == task]
    names = list(dict.fromkeys(layout.row(line) for _, line in own.iterrows()))
    lines = []
    for phenomenon, group in own.groupby("phenomenon", sort=False):
        values = {layout.row(line): percent(line["accuracy"]) for _, line in group.iterrows()}
        texts = (values.get(name, DASH) for name in names)
        lines.append((str(phenomenon).replace("_", " "), str(group["dev_examples"].iloc[0]), *texts))
    note = f"{layout.task(task)}. Accuracy, mean over seeds."
    return Shown("phenomena", ("phenomenon", "examples", *names), tuple(lines), "lr" + "r" * len(names), note)


def disagreements_table(layout: Layout, frame: pd.DataFrame, task: str, method: str) -> Shown:
    """Return dev examples that a row and its teacher judge differently."""
    own = frame[(frame["task"] == task) & (frame["method"] == method)]
    lines = tuple(
        (
            " / ".join(filter(None, (line["text_a"], line["text_b"]))), line["gold"], line["teacher_answer"],
            f"{line['student_answer']} ({line['seeds_differing']} of {line['seeds']})",
        )
        for _, line in own.iterrows()
    )  # fmt: skip
    row = layout.row(own.iloc[0]) if len(own) else method
    note = (
        f"{layout.task(task)}, {row}: examples on which most seeds differ from the teacher and one of the two is right."
    )
    return Shown("", ("text", "gold", "teacher", "student (seeds that differ)"), lines, "llll", note)


def attention_table(study: Study, means: pd.DataFrame) -> Shown:
    """Return the attention distances; tasks go by their names, since nothing but weights need be there."""
    axes, lines = study.axes, []
    for _, line in means.iterrows():
        ratio = f"{line['ratio']:.2f} ({line['ratio_low']:.2f} to {line['ratio_high']:.2f})"
        distance = f"{line['kl']:.3f}" if is_known(line["kl"]) else line["problem"]
        between = f"{line['low']:.3f} to {line['high']:.3f}" if is_known(line["low"]) else DASH
        named = (line["task"], f"{line['id']} {line['title']}".strip(), *(str(line[axis]) for axis in axes))
        lines.append((*named, plain("seed")(line), distance, between, ratio if is_known(line["ratio"]) else DASH))
    header = ("task", "method", *map(axis_title, axes), "seed", "KL", "95 % interval", "times the baseline's")
    return Shown("attention_means", header, tuple(lines), "l" * (2 + len(axes)) + "rrrr", NOTES["attention"])


def best_table(layout: Layout, best: pd.DataFrame) -> Shown:
    """Return the expected best of k seeds."""
    own = layout.of_main(best)
    most = int(own["k"].max()) if len(own) else 0
    ks = [k for k in range(1, most + 1) if k <= 5 or k == most]
    lines = []
    for _, group in own.groupby(["task", "metric", "id", "method", *layout.study.axes], sort=False):
        first, values = group.iloc[0], dict(zip(group["k"], group["value"], strict=True))
        texts = (shown(first["metric"], values.get(k)) for k in ks)
        lines.append((layout.task(first["task"]), layout.row(first), *layout.point(first), *texts))
    header = ("task", "method", *layout.point_header, *(f"k = {k}" for k in ks))
    align = "l" * (2 + len(layout.point_header)) + "r" * len(ks)
    return Shown("expected_best", header, tuple(lines), align, NOTES["best"])


def claims_table(claims: pd.DataFrame) -> Shown:
    """Return claims with their verdicts."""
    lines = tuple(
        (
            line["claim"],
            line["verdict"],
            f"{line['evidence']} {line['needed']}".strip(),
            f"[{line['status']}] {line['source']}",
        )
        for _, line in claims.iterrows()
    )
    return Shown("claims", ("claim", "verdict", "evidence", "source"), lines, "llll", NOTES["claims"])


def published_table(layout: Layout, published: pd.DataFrame) -> Shown:
    """Return published figures beside ours."""
    lines = tuple(
        (
            line["system"], layout.task(line["task"]), metric_title(line["metric"]) if line["metric"] else "not stated",
            line["rows"], line["differs"] or DASH, f"[{line['status']}] {line['source']}", f"{line['published']:.2f}",
            with_spread(base_metric(line["metric"]), line["ours"], line["std"]) if is_known(line["ours"]) else DASH,
        )
        for _, line in published.iterrows()
    )  # fmt: skip
    header = ("system", "task", "metric", "our rows", "differs in", "source", "published", "ours")
    return Shown("published", header, lines, "llllllrr", NOTES["published"])
