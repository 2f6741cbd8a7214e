"""Whether a study's outputs are current: by what they were made of, quickly, without heavy imports."""

import json
import subprocess
import sys

import pytest
from fake_runs import SMALL, plan, write_run

from internal_kd.analysis.attention import map_attention
from internal_kd.analysis.attention_figures import plot_attention_kl, plot_attention_maps
from internal_kd.analysis.built import describe_inputs, figure_names, is_current, outputs_of
from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.curves import plot_learning
from internal_kd.analysis.fidelity_tables import measure_fidelity
from internal_kd.analysis.figures import plot_main
from internal_kd.analysis.latency import write_latencies
from internal_kd.analysis.reliability import plot_reliability
from internal_kd.analysis.report import render_report, show
from internal_kd.analysis.scoring import score_runs
from internal_kd.errors import UserError
from internal_kd.params import merge


def analyse(study):
    write_latencies(study, [])
    for step in (score_runs, compare_runs, measure_fidelity, map_attention, plot_main, plot_learning, plot_reliability):
        step(study)
    for task in study.tasks:
        plot_attention_kl(study, task)
        plot_attention_maps(study, task)
    render_report(study)


def test_outputs_are_current_until_a_run_changes(small):
    assert not is_current(small)
    analyse(small)
    assert is_current(small)
    assert all(path.is_file() for paths in outputs_of(small).values() for path in paths)

    run = small.students[0]
    record = run.marker.read_text()
    run.marker.unlink()
    assert not is_current(small)
    run.marker.write_text(record)
    assert is_current(small), "a run that came back the same changes nothing"
    write_run(small.students[1], constant=True)
    assert not is_current(small)


def test_titles_order_and_wanted_runs_count(small):
    analyse(small)
    assert is_current(plan(**SMALL))
    assert not is_current(plan(**merge(SMALL, {"methods": {"soft": {"title": "Another title"}}})))
    assert not is_current(plan(**merge(SMALL, {"study": {"methods": ["stacked", "soft"]}})))
    assert not is_current(plan(**merge(SMALL, {"study": {"seeds": [1]}})))
    assert not is_current(plan(**merge(SMALL, {"methods": {"stacked": {"compare_with": []}}})))


def test_another_metric_of_ones_own_files_moves_tables_and_no_run(project):
    (project / "own.csv").write_text("text,label\nfine,a\nbad,b\n")
    entry = {"source": "files", "train": "own.csv", "dev": "own.csv", "text": ["text"]}
    studies = [
        plan(study={"tasks": ["own"]}, tasks={"own": entry | {"metrics": metrics}}) for metrics in ([], ["macro_f1"])
    ]
    assert [run.fingerprint for run in studies[0].runs] == [run.fingerprint for run in studies[1].runs]
    assert describe_inputs(studies[0]) != describe_inputs(studies[1])


def test_the_weight_of_the_distillation_score_moves_tables_and_no_run(small):
    analyse(small)
    heavier = plan(**merge(SMALL, {"analysis": {"distillation_alpha": 0.9}}))
    assert [run.folder for run in heavier.runs] == [run.folder for run in small.runs]
    assert not is_current(heavier)


def test_a_missing_or_older_output_is_not_current(small):
    analyse(small)
    report = small.folder / "report.html"
    page = report.read_text()
    report.unlink()
    assert not is_current(small)
    report.write_text(page)
    write_run(small.students[0], constant=True)
    score_runs(small)
    compare_runs(small)
    measure_fidelity(small)
    map_attention(small)
    assert not is_current(small), "figures and report are still those of the scores before"
    with pytest.raises(UserError, match="run internal-kd plot-figures again"):
        render_report(small)


def test_a_gap_that_only_its_content_shows_is_looked_at_again(small):
    path = small.students[0].folder / "predictions.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    analyse(small)
    assert not is_current(small)
    path.write_bytes(content)
    assert not is_current(small), "the run is whole again, the tables still have the gap"


def test_built_from_names_every_wanted_fingerprint(small):
    small.students[3].marker.unlink()
    score_runs(small)
    built = json.loads((small.folder / "tables" / "built_from.json").read_text())
    assert built["study"] == "small"
    assert [folder[-12:] for folder in built["runs"]] == [
        f[-12:] for f in sorted(str(run.folder) for run in small.runs)
    ]
    assert built["runs"][str(small.students[3].folder)] == {"record": None, "problem": "missing"}


def test_figures_over_depth_and_size_need_several(project):
    assert figure_names(plan())[:4] == ("main", "learning", "reliability", "attention_kl_acceptability")
    swept = plan(study={"depths": [1, 3], "examples": [100, "full"], "tasks": ["entailment"]})
    of_attention = ("attention_kl_entailment", "attention_maps_entailment")
    assert figure_names(swept) == ("main", "learning", "reliability", "depth", "size", *of_attention)


def test_asking_imports_nothing_heavy():
    heavy = "('torch', 'pandas', 'numpy', 'matplotlib')"
    code = f"import sys, internal_kd.analysis.built; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_show_says_where_the_report_is(small):
    with pytest.raises(UserError, match="was not run yet"):
        show(small)
    analyse(small)
    assert show(small).splitlines()[0].startswith("| id | method |")
    assert show(small).splitlines()[-1] == "Report: results/small/report.html"
