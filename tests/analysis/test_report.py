"""The report: one page that needs nothing else, and says what is there and what is not."""

import csv
import json
import re
from pathlib import Path

import pytest
import yaml
from fake_runs import METHODS, QUALITY, SMALL, TITLES, plan, write_record, write_study

from internal_kd.analysis.attention import map_attention
from internal_kd.analysis.attention_figures import plot_attention_kl, plot_attention_maps
from internal_kd.analysis.built import params_path
from internal_kd.analysis.captions import captions_of
from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.curves import curve_of, plot_learning, read_history
from internal_kd.analysis.fidelity_tables import measure_fidelity
from internal_kd.analysis.figures import PAPER_DEPTH, plot_main, shown_depth
from internal_kd.analysis.reliability import plot_reliability
from internal_kd.analysis.report import render_report
from internal_kd.analysis.scoring import score_runs
from internal_kd.analysis.sweeps import plot_depth, plot_size
from internal_kd.distillation.objectives import OBJECTIVES, Objective
from internal_kd.params import load_params, merge
from internal_kd.study import plan_study
from tiny_study import ROOT


def report_of(study):
    for step in (score_runs, compare_runs, measure_fidelity, map_attention):
        step(study)
    for task in study.tasks:
        plot_attention_kl(study, task)
        plot_attention_maps(study, task)
    for draw in (plot_main, plot_learning, plot_reliability, plot_depth, plot_size):
        draw(study)
    return render_report(study).read_text()


def test_the_page_is_self_contained(small):
    page = report_of(small)
    assert not re.search(r"<script|<link|@import|url\(|https?://", page)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]{30})', page))
    assert page.count("<img ") == 3 + 2


def test_the_encoder_is_named_by_where_this_one_came_from(small):
    encoder = small.params.encoder
    found = {"hub": encoder.id, "package": f"package {encoder.package}", "folder": "local folder"}[encoder.source]
    page = report_of(small)
    assert f"{encoder.name} ({found})" in page
    assert encoder.source == "hub" or (encoder.id or "/") not in page


def test_every_command_means_this_study(small):
    own = params_path(small)
    page = report_of(small)
    # Neither params.yaml nor an overlay of its name says the same: its own copy does, by itself and laid over another.
    assert f"internal-kd run --cores 2 --configfile {own.as_posix()}" in page
    assert f"internal-kd plot-figures --overlay {own.as_posix()}" in page
    assert page.count("Made by") >= page.count("<img ")
    wanted = [run.fingerprint for run in small.runs]
    for params in (load_params(own), load_params(ROOT / "params.yaml", [own])):
        assert [run.fingerprint for run in plan_study(params).runs] == wanted
    Path("config").mkdir()
    Path("config", f"{small.name}.yaml").write_text(own.read_text())
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    assert f"internal-kd run --cores 2 --configfile config/{small.name}.yaml" in render_report(small).read_text()
    Path("params.yaml").write_text(own.read_text())
    assert "internal-kd run --cores 8 --resources gpu=2" in render_report(small).read_text()


def test_training_times_stand_beside_sizes_and_both_tables_say_when_they_compare(small):
    for run, seconds in zip((r for r in small.students if r.method.name == "soft"), (1972.0, 410.0), strict=True):
        write_record(run, ["history.jsonl", "predictions.parquet"], seconds=seconds)
    page = report_of(small)
    sizes, runs = (
        page.split(f"<h2>{title}</h2>")[1].split("<h2>")[0] for title in ("Size against score", "The runs behind")
    )
    assert "<th>training seconds</th>" in sizes and '<td class="number">1,191 (410 to 1,972)</td>' in sizes
    assert '<td class="number">50 % (83 %)</td>' in sizes
    assert '<td class="number">1,972</td>' in runs
    for section in (sizes, runs):
        assert "the machine did the same work meanwhile" in section and "docs/performance.md" in section


def test_gaps_and_runs_are_listed(small):
    gone = small.students[0]
    gone.marker.unlink()
    page = report_of(small)
    assert f"1 of {len(small.runs)} runs are not in these tables" in page
    assert gone.label in page and gone.fingerprint in page
    assert all(run.fingerprint in page for run in small.runs)
    assert f"{len(small.runs) - 1} finished runs" in page


def test_a_study_without_any_run_has_a_report_of_gaps(project):
    page = report_of(plan(**SMALL))
    assert "not run yet" in page
    assert "5 of 5 runs are not in these tables" in page


def test_the_answer_comes_first(small):
    page = report_of(small)
    assert page.index("In short.") < page.index("best internal row") < page.index("Main table")


def test_equal_methods_show_no_difference(project, monkeypatch):
    monkeypatch.setitem(QUALITY, "stacked", QUALITY["soft"])
    page = report_of(write_study(plan(**SMALL)))
    assert "No difference from standard distillation (3.0) is shown for 3.5." in page


def test_a_clear_lead_is_said_with_its_interval(project, monkeypatch):
    monkeypatch.setitem(QUALITY, "soft", 0.55)
    monkeypatch.setitem(QUALITY, "stacked", 0.97)
    page = report_of(write_study(plan(**SMALL)))
    assert re.search(r"3\.5 scores higher than standard distillation \(3\.0\) by \+[\d.]+ \(95 % interval \+", page)


def test_epochs_are_those_of_the_runs(project):
    page = report_of(write_study(plan(tasks={"entailment": {"teacher_epochs": 7}}, methods={"soft": {"epochs": 9}})))
    assert re.search(r"students (\d) or 9, teachers 2 \(Acceptability\) and 7 \(Entailment\);", page)


def test_titles_are_escaped(project):
    page = report_of(write_study(plan(**SMALL, methods={"soft": {"title": "<b>soft</b> & co"}})))
    assert "&lt;b&gt;soft&lt;/b&gt; &amp; co" in page and "<b>soft" not in page


def test_figures_are_the_same_bytes_every_time(small):
    score_runs(small)
    compare_runs(small)
    measure_fidelity(small)
    names = ("main", "learning", "reliability")
    files = [small.folder / "figures" / f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    drawn = []
    for _ in range(2):
        plot_main(small)
        plot_learning(small)
        plot_reliability(small)
        drawn.append([path.read_bytes() for path in files])
    assert drawn[0] == drawn[1]


def test_sweeps_draw_their_figures(project):
    study = write_study(
        plan(study={"depths": [1, 3], "examples": [100, "full"], "methods": ["soft", "stacked"], "seeds": [1]})
    )
    page = report_of(study)
    assert page.count("<img ") == 5 + 2 * 2
    assert "Training-set size" in page and "Depth" in page


def test_captions_name_the_students_and_explain_the_bands(project):
    sweep = {"depths": [1, 3], "examples": [100, 2000, "full"], "methods": ["soft", "stacked"]}
    tasks = {name: {"train": 4000} for name in TITLES}
    captions = captions_of(plan(study=sweep, tasks=tasks))
    for name in ("main", "learning", "reliability"):
        assert captions[name].startswith("Students of 3 layers trained on all examples. ")
    assert captions["depth"].startswith("Students trained on all examples: ")
    assert captions["size"].startswith("Students of 3 layers: ")
    assert all("Bands: 95 % interval" in captions[name] for name in ("depth", "size"))
    assert "on 2,000 examples" in captions_of(plan(study={"examples": [100, 2000]}, tasks=tasks))["main"]
    extra = {"more": METHODS["soft"] | {"id": "3.9", "temperature": 2}}
    many = captions_of(plan(study=sweep | {"methods": [*METHODS, "more"]}, methods=extra, tasks=tasks))
    assert "Bands" not in many["depth"] and "No bands" in many["size"]


def test_attention_captions_name_the_students(small):
    assert report_of(small).count("<figcaption>Entailment, students of 3 layers trained on 400 examples: ") == 2


def test_of_several_depths_the_paper_s_is_shown_else_the_deepest(project):
    deep = {"encoder": {"layers": 12}, "student": {"epochs": 20}}
    assert shown_depth(plan(study={"depths": [3, 6, 12]}, **deep)) == PAPER_DEPTH == 6
    assert shown_depth(plan(study={"depths": [2, 4]}, **deep)) == 4
    claims = yaml.safe_load((ROOT / "paper/claims.yaml").read_text())
    assert claims["setting"]["student_layers"] == PAPER_DEPTH


def test_a_panel_s_title_names_depth_and_examples(small):
    score_runs(small)
    compare_runs(small)
    assert "Students: 3 layers, 400 examples" in texts_of(small, plot_main)
    assert "Students: 3 layers, 400 examples" in texts_of(small, plot_learning)


def test_the_expected_best_is_laid_out_by_k(small):
    page = report_of(small)
    table = page[page.index("Expected best of k seeds") :].split("</table>")[0]
    assert "<th>k = 1 (mean)</th><th>k = 2</th></tr>" in table and "k = 3" not in table
    values = {seed: score_of(small, "soft", seed) for seed in (1, 2)}
    expected = [sum(values.values()) / 2, 0.25 * min(values.values()) + 0.75 * max(values.values())]
    cells = "".join(f'<td class="number">{100 * value:.1f}</td>' for value in expected)
    assert re.search(rf"<td class=\"word\">3\.0</td>.*{cells}", table)


def test_one_seed_has_no_expected_best(project):
    assert "Expected best" not in report_of(write_study(plan(**merge(SMALL, {"study": {"seeds": [1]}}))))


def texts_of(study, draw):
    """What a figure says, drawn with texts instead of outlines."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        return draw(study).with_suffix(".svg").read_text()


def score_of(study, method, seed):
    with (study.folder / "tables" / "scores.csv").open() as handle:
        lines = [line for line in csv.DictReader(handle) if line["metric"] == "accuracy"]
    return next(float(line["value"]) for line in lines if (line["method"], line["seed"]) == (method, str(seed)))


def test_curves_average_seeds_and_mark_stages():
    histories = [
        [{"epoch": 1, "stage": "layer 1", "x": 1.0}, {"epoch": 2, "stage": "classification", "x": None}],
        [{"epoch": 1, "stage": "layer 1", "x": 3.0}, {"epoch": 2, "stage": "classification", "x": None}],
    ]
    curve = curve_of(histories, "x")
    assert (curve.mean[0], curve.low[0], curve.high[0]) == (2.0, 1.0, 3.0)
    assert list(curve.known) == [True, False]
    assert curve.stages == (2,)
    assert curve_of(histories, "y") is None


@pytest.mark.parametrize("text", ["", '{"epoch": 1, "stage": "all"}\n{"epo'])
def test_a_history_cut_short_gives_what_is_whole(tmp_path, text):
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    assert len(read_history(path)) == text.count("\n")


def test_a_layer_term_of_ones_own_has_its_curve(project, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "cls_mse", Objective("layer", "cls", "own:cls_mse"))
    own = {"soft": {"weights": {"soft": 1, "cls_mse": 1}}}
    study = write_study(plan(**merge(SMALL, {"methods": own})))
    for run in study.students:
        if run.method.name == "soft":
            path = run.folder / "history.jsonl"
            lines = [json.loads(line) | {"cls_mse": 0.1} for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            write_record(run, ["history.jsonl", "predictions.parquet"])
    score_runs(study)
    assert "cls_mse" in texts_of(study, plot_learning)
