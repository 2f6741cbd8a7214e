"""The tables of the appendix about single rows, classes, examples and runs, laid out from their frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from internal_kd.plan.study import Study
from internal_kd.report.layout import Layout, Shown, Text, number, p_value, plain, score, share
from internal_kd.report.words import DASH, axis_title, is_known, percent, shown

if TYPE_CHECKING:
    import pandas as pd

# Classes of a task up to which every one is shown, and how many pairs or classes are shown of more.
MOST_CLASSES, SHOWN_CLASSES = 12, 10
NOTES = {
    "fidelity": "Each student compared with its teacher (row 2.0: with the same one), means over "
    "seeds. KL: KL(teacher || student) in nats; for values the mean squared difference. Repeated: share of the "
    "teacher's mistakes to which the student gives the same wrong answer; by chance: what its own errors within each "
    "class would make of it. p: generalised Cochran-Mantel-Haenszel test, after Holm's correction.",
    "calibration": "Expected calibration error of the top label × 100, 15 bins of equal width (Guo et al. 2017); 0 "
    "is perfect. Confidence above accuracy is overconfidence.",
    "attention": "KL(teacher || student) of attention in nats, over real queries, heads, matched layers and dev "
    "examples; the interval is over examples. One student a row: the first seed whose weights are kept.",
    "best": "Mean of the best dev score among k seeds drawn with replacement (Dodge et al. 2019): what keeping the "
    "best of k would report.",
}


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
    shares = {name: share(f"class_{name.lower()}", 1) for name in ("precision", "recall", "F1")}
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


def warnings_table(warnings: Iterable[Mapping[str, Any]]) -> Shown:
    """Return what a reader must know before anything else, row by row."""
    lines = tuple((w["row"], w["task"], w["kind"], w["who"], w["value"], w["reference"]) for w in warnings)
    return Shown("warnings", ("method", "task", "what", "seeds", "score", "majority"), lines, "llllrr")


def missing_table(runs: pd.DataFrame) -> Shown:
    """Return the runs that enter no table."""
    lost = runs[runs["problem"] != ""][["label", "fingerprint", "problem"]]
    return Shown("missing", ("run", "fingerprint", "problem"), tuple(lost.itertuples(index=False, name=None)), "lll")


def runs_table(runs: pd.DataFrame) -> Shown:
    """Return the finished runs with their commit, machine and time."""
    done = runs[runs["problem"] == ""]
    lines = tuple(
        (
            line["label"], line["fingerprint"], str(line["git_commit"])[:8],
            f"{line['device']}, {line['precision']}", number("seconds", ",.0f")(line),
            str(line["finished"])[:16].replace("T", " "),
        )
        for _, line in done.iterrows()
    )  # fmt: skip
    header = ("run", "fingerprint", "commit", "device", "seconds", "finished (UTC)")
    return Shown("runs", header, lines, "llllrl", "Seconds compare only on one device with the same load.")
