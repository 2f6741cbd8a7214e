"""Every number that is reported of the trained study, recomputed from its files by formulas that are written here."""

import contextlib
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax
from scipy.stats import entropy, ttest_ind
from scipy.stats import t as student_t
from sklearn.metrics import confusion_matrix, matthews_corrcoef, precision_recall_fscore_support

from internal_kd.report import sweeps
from internal_kd.report.figures import look
from internal_kd.report.make import evaluate
from internal_kd.report.rows import explained, forest
from internal_kd.report.study_frames import StudyFrames
from trained_study import Trained, copy_project, plan_trained

SCORES = {"accuracy": lambda gold, own: np.mean(gold == own), "matthews_correlation": matthews_corrcoef}


@pytest.fixture(scope="module")
def reported(trained_project, tmp_path_factory) -> Trained:
    """The trained study with its tables; to be read only."""
    folder = tmp_path_factory.mktemp("numbers") / "trained"
    copy_project(trained_project.folder, folder)
    with contextlib.chdir(folder):
        study = plan_trained()
        evaluate(study)
    return Trained(folder, study)


@pytest.fixture(autouse=True)
def here(reported, monkeypatch):
    monkeypatch.chdir(reported.folder)


def table(reported, name: str) -> pd.DataFrame:
    return pd.read_csv(reported.study.folder / f"tables/{name}.csv", dtype={"id": str, "baseline_id": str})


def runs_of(reported, task: str, method: str) -> list:
    return [run for run in reported.study.runs if (run.task, run.method.name) == (task, method)]


def read(run) -> tuple[np.ndarray, np.ndarray]:
    """Gold labels and logits."""
    frame = pd.read_parquet(run.folder / "predictions.parquet").sort_values("idx")
    return frame["label"].to_numpy(), frame.filter(like="logit_").to_numpy(float)


def answers(runs) -> tuple[np.ndarray, np.ndarray]:
    """Gold labels and answers, (seeds, examples)."""
    return read(runs[0])[0], np.stack([read(run)[1].argmax(1) for run in runs])


def scores(runs, metric: str) -> np.ndarray:
    gold, given = answers(runs)
    return np.array([SCORES[metric](gold, own) for own in given])


def record(run) -> dict:
    return json.loads((run.folder / "run.json").read_text())


def test_scores_spreads_and_shares(reported):
    main = table(reported, "main")
    assert len(main) == sum(len(inputs) for inputs in main.groupby("task").groups.values()) > 12
    for line in main.to_dict("records"):
        found = scores(runs_of(reported, line["task"], line["method"]), line["metric"])
        of_teacher = scores(runs_of(reported, line["task"], "teacher"), line["metric"]).mean()
        gold, _ = read(runs_of(reported, line["task"], line["method"])[0])
        constant = np.full(len(gold), np.bincount(gold).argmax())
        assert line["mean"] == pytest.approx(found.mean()) and line["seeds"] == len(found)
        assert line["std"] == pytest.approx(found.std(ddof=1) if len(found) > 1 else np.nan, nan_ok=True)
        assert line["majority"] == pytest.approx(SCORES[line["metric"]](gold, constant))
        if found.mean() > 0 and of_teacher > 0:
            assert line["teacher_share"] == pytest.approx(found.mean() / of_teacher)


def test_differences_on_this_dev_set_are_welch_tests(reported):
    lines = table(reported, "comparisons").query("scope == 'dev set'")
    assert len(lines)
    for line in lines.to_dict("records"):
        ours, theirs = (
            scores(runs_of(reported, line["task"], method), line["metric"])
            for method in (line["method"], line["baseline"])
        )
        assert line["difference"] == pytest.approx(ours.mean() - theirs.mean(), abs=1e-12)
        if min(len(ours), len(theirs)) < 2:
            assert line["reading"] == "one seed" and np.isnan(line["p"])
        elif ours.std() + theirs.std() > 0:
            found = ttest_ind(ours, theirs, equal_var=False)
            interval = found.confidence_interval()
            assert [line["p"], line["low"], line["high"]] == pytest.approx([found.pvalue, *interval])


def crossed_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The standard error of a difference of means over seeds and examples, both random, from (seeds, examples)."""
    examples = ours.shape[1]
    of_examples = np.var(ours.mean(0) - theirs.mean(0), ddof=1) / examples
    of_seeds = of_residual = 0.0
    for side in (ours, theirs):
        seeds = len(side)
        of_seeds += np.var(side.mean(1), ddof=1) / seeds
        left = side - side.mean(0) - side.mean(1)[:, None] + side.mean()
        of_residual += (left**2).sum() / ((seeds - 1) * (examples - 1)) / (seeds * examples)
    return float(np.sqrt(max(of_examples + of_seeds - of_residual, of_examples, of_seeds)))


def test_differences_on_new_examples_are_crossed_tests(reported):
    lines = table(reported, "comparisons").query(
        "scope == 'new examples' and metric == 'accuracy' and reading != 'one seed'"
    )
    assert len(lines)
    for line in lines.to_dict("records"):
        sides = [answers(runs_of(reported, line["task"], method)) for method in (line["method"], line["baseline"])]
        error = crossed_error(*((given == gold).astype(float) for gold, given in sides))
        half = (line["high"] - line["low"]) / 2
        assert line["difference"] == pytest.approx((line["high"] + line["low"]) / 2)
        # Interval and p are of one t distribution, with at least as many degrees of freedom as the fewer seeds have.
        degrees = degrees_of(half / error)
        assert degrees >= 1 - 1e-6
        assert line["p"] == pytest.approx(2 * student_t.sf(abs(line["difference"]) / error, degrees), rel=1e-4)


def degrees_of(quantile: float) -> float:
    """The degrees of freedom of a t distribution with this 97.5 % quantile."""
    return brentq(lambda degrees: student_t.ppf(0.975, degrees) - quantile, 0.9, 1e6)


def test_p_values_are_corrected_after_holm_within_family_and_scope(reported):
    lines = table(reported, "comparisons")
    for _, own in lines[lines["p"].notna()].groupby(["family", "scope"]):
        ps = np.sort(own["p"])
        steps = np.minimum(1, np.maximum.accumulate(ps * np.arange(len(ps), 0, -1)))
        assert np.sort(own["p_holm"]) == pytest.approx(steps)


def test_mean_leads_over_tasks(reported):
    comparisons, pooled = table(reported, "comparisons"), table(reported, "pooled")
    main_metrics = table(reported, "tasks").set_index("task")["metric"]
    main = comparisons[comparisons["metric"] == comparisons["task"].map(main_metrics)]
    assert len(pooled)
    for line in pooled.to_dict("records"):
        own = main[
            (main["method"] == line["method"])
            & (main["scope"] == line["scope"])
            & (main["baseline"] == line["baseline"])
        ]
        assert line["difference"] == pytest.approx(own["difference"].mean(), abs=1e-12)
        assert line["tasks"] == len(own) == 2


def test_nearness_to_the_teacher(reported):
    lines = table(reported, "fidelity")
    assert set(lines["method"]) >= {"soft", "stacked", "narrow", "finetuned"}
    for line in lines.to_dict("records"):
        students = runs_of(reported, line["task"], line["method"])
        teacher = next(run for run in reported.study.runs if run.fingerprint == line["teacher_run"])
        students = [run for run in students if run.fingerprint != teacher.fingerprint][: line["seeds"]]
        gold, of_teacher = read(teacher)
        taught, (_, given) = of_teacher.argmax(1), answers(students)
        wrong = taught != gold
        divergences = []
        for run in students:
            p, log_q = softmax(of_teacher, 1), log_softmax(read(run)[1], 1)
            divergences.append((p * (np.log(p) - log_q)).sum(1).mean())
        assert line["agreement"] == pytest.approx((given == taught).mean())
        assert line["divergence"] == pytest.approx(np.mean(divergences))
        assert line["repeated"] == pytest.approx(np.mean([(own == taught)[wrong].mean() for own in given]))
        chance = [
            sum(
                (taught[gold == g] == c).sum() * (own[gold == g] == c).sum() / (gold == g).sum()
                for g in np.unique(gold) for c in np.unique(taught) if c != g
            ) / wrong.sum()
            for own in given
        ]  # fmt: skip
        assert line["by_chance"] == pytest.approx(np.mean(chance))
        quarters = [
            (~wrong & (given == gold)),
            (~wrong & (given != gold)),
            (wrong & (given == gold)),
            (wrong & (given != gold)),
        ]
        names = ["both_right", "only_teacher_right", "only_student_right", "both_wrong"]
        assert [line[name] for name in names] == [int(part.sum()) for part in quarters]


def calibration_error(gold: np.ndarray, logits: np.ndarray) -> float:
    sure, right = softmax(logits, 1).max(1), logits.argmax(1) == gold
    error = 0.0
    for low, high in itertools.pairwise(np.linspace(0, 1, 16)):
        inside = (sure > low) & (sure <= high)
        error += abs(right[inside].sum() - sure[inside].sum()) / len(gold)
    return error


def test_calibration(reported):
    for line in table(reported, "calibration").to_dict("records"):
        runs = runs_of(reported, line["task"], line["method"])
        errors = [calibration_error(*read(run)) for run in runs]
        assert line["ece"] == pytest.approx(np.mean(errors))
        assert line["ece_std"] == pytest.approx(np.std(errors, ddof=1) if len(errors) > 1 else np.nan, nan_ok=True)
        assert line["confidence"] == pytest.approx(np.mean([softmax(read(run)[1], 1).max(1) for run in runs]))
        assert line["accuracy"] == pytest.approx(scores(runs, "accuracy").mean())
        assert line["entropy"] == pytest.approx(np.mean([entropy(softmax(read(run)[1], 1), axis=1) for run in runs]))


def test_classes_and_confusion(reported):
    classes, confusion = table(reported, "classes"), table(reported, "confusion")
    for (task, method), own in classes.groupby(["task", "method"], sort=False):
        gold, given = answers(runs_of(reported, task, method))
        found = [precision_recall_fscore_support(gold, one, labels=[0, 1], zero_division=0)[:3] for one in given]
        assert pytest.approx(np.mean(found, 0)) == own[["class_precision", "class_recall", "class_f1"]].to_numpy().T
        names = own["label"].tolist()
        counted = sum(confusion_matrix(gold, one, labels=[0, 1]) for one in given)
        lines = confusion[(confusion["task"] == task) & (confusion["method"] == method)]
        for line in lines.to_dict("records"):
            k, j = names.index(line["gold"]), names.index(line["predicted"])
            assert line["count"] == counted[k, j] and line["share"] == pytest.approx(counted[k, j] / counted[k].sum())
        assert lines["count"].sum() == counted.sum()


def test_costs(reported):
    main = table(reported, "main").set_index(["task", "metric", "method"])
    for line in table(reported, "main").to_dict("records"):
        runs, teachers = (runs_of(reported, line["task"], method) for method in (line["method"], "teacher"))
        records, above = [record(run) for run in runs], record(teachers[0])
        share = records[0]["encoder_parameters"] / above["encoder_parameters"]
        assert line["encoder_share"] == pytest.approx(share)
        assert line["total_share"] == pytest.approx(records[0]["total_parameters"] / above["total_parameters"])
        assert line["training_seconds"] == pytest.approx(np.median([one["seconds"] for one in records]))
        kept = main.loc[line["task"], line["metric"], line["method"]]["teacher_share"]
        if not np.isnan(kept):
            assert line["distillation_score"] == pytest.approx(0.5 * share + 0.5 * (1 - kept))


def test_expected_best_of_k_seeds(reported):
    for line in table(reported, "expected_best").to_dict("records"):
        found = scores(runs_of(reported, line["task"], line["method"]), line["metric"])
        draws = [max(draw) for draw in itertools.product(found, repeat=int(line["k"]))]
        assert line["value"] == pytest.approx(np.mean(draws))


def test_curves_repeat_the_histories(reported):
    curves = table(reported, "curves")
    run = reported.run("judge", "stacked")
    history = [json.loads(line) for line in (run.folder / "history.jsonl").read_text().splitlines()]
    own = curves[(curves["task"] == "judge") & (curves["method"] == "stacked") & (curves["seed"] == 1)]
    for quantity in ("soft", "attention_kl"):
        found = own[own["quantity"] == quantity].set_index("epoch")["value"].to_dict()
        assert found == pytest.approx({e["epoch"]: e[quantity] for e in history if quantity in e})


def test_what_is_warned_of(reported):
    warned = table(reported, "warnings")
    for run in reported.study.runs:
        constant = len(np.unique(answers([run])[1])) == 1
        own = warned[
            (warned["task"] == run.task) & (warned["method"] == run.method.name) & (warned["kind"] == "one answer")
        ]
        assert constant == any(str(run.seed) in str(seeds).split(", ") for seeds in own["seeds"])


def marks(figure) -> list[set[float]]:
    """The x of every single mark, panel by panel."""
    return [
        {round(float(line.get_xdata()[0]), 6) for line in panel.lines if len(line.get_xdata()) == 1}
        for panel in figure.axes
    ]  # fmt: skip


def rounded(values) -> set[float]:
    return {round(float(value), 6) for value in values}


def test_figures_draw_these_numbers(reported):
    study, comparisons = reported.study, table(reported, "comparisons").query("family == 'primary'")
    frames = StudyFrames(study)
    with look():
        leading, near, sure = forest(frames), explained(frames, "agreement"), explained(frames, "calibration")
        costs = sweeps.cost(frames)
    leads = comparisons[comparisons["scope"] == "new examples"].groupby("task", sort=False)["difference"]
    of_all = table(reported, "pooled").query("scope == 'new examples'")["difference"]
    for panel, values in zip(marks(leading), [of_all, *(own for _, own in leads)], strict=True):
        assert rounded(100 * values) <= panel
    for name, figure in (("agreement", near), ("ece", sure)):
        frame = table(reported, "fidelity" if name == "agreement" else "calibration")
        for panel, (_, own) in zip(marks(figure), frame.groupby("task", sort=False), strict=True):
            assert rounded(100 * own[name]) <= panel
    sizes = {record(run)["encoder_parameters"] / 1e6 for run in study.runs}
    assert rounded(sizes) <= marks(costs)[0]


def test_printed_tables_round_these_numbers(reported):
    printed = (reported.study.folder / "tables/calibration.md").read_text()
    for line in table(reported, "calibration").to_dict("records"):
        spread = "" if np.isnan(line["ece_std"]) else f" ± {100 * line['ece_std']:.1f}"
        assert f"| {100 * line['ece']:.1f}{spread} | {100 * line['confidence']:.1f} % |" in printed
    printed = (reported.study.folder / "tables/fidelity.md").read_text()
    for line in table(reported, "fidelity").to_dict("records"):
        assert f"| {100 * line['agreement']:.1f} % | {line['divergence']:.3f} |" in printed
