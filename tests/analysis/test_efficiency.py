"""The distillation score beside the main table, and the tables as LaTeX."""

import re
import shutil
import subprocess

import pandas as pd
import pytest
from fake_runs import QUALITY, SMALL, plan, write_record, write_study

from internal_kd.analysis.attention import map_attention
from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.efficiency import distillation_score
from internal_kd.analysis.fidelity_tables import measure_fidelity
from internal_kd.analysis.latency import LatencyRow, write_latencies
from internal_kd.analysis.scoring import score_runs
from internal_kd.analysis.text_tables import TextTable, latex, markdown
from internal_kd.errors import UserError

TEX_TABLES = (
    "main", "comparisons", "paper", "fidelity", "fidelity_comparisons", "calibration", "efficiency", "attention",
)  # fmt: skip


def efficiency(study):
    score_runs(study)
    return pd.read_csv(study.folder / "tables" / "efficiency.csv", dtype={"id": str})


def test_a_student_of_half_the_size_that_keeps_nine_tenths():
    assert distillation_score(0.5, 0.9, alpha=0.5) == pytest.approx(0.30)
    assert distillation_score(0.5, 0.9, alpha=1.0) == pytest.approx(0.5)
    assert distillation_score(0.5, 0.9, alpha=0.0) == pytest.approx(0.1)
    assert distillation_score(None, 0.9, 0.5) is None and distillation_score(0.5, None, 0.5) is None


def test_the_teacher_has_alpha_and_students_what_the_formula_gives(study):
    rows = efficiency(study)
    main = pd.read_csv(study.folder / "tables" / "main.csv", dtype={"id": str})
    assert list(rows["method"]) == list(main["method"])
    assert set(rows["alpha"]) == {0.5}
    assert rows[rows.method == "teacher"].distillation_score.to_list() == pytest.approx([0.5] * 4)
    students = rows[rows.method != "teacher"]
    # The synthetic students have 3 of 6 million parameters, 15 of 18 with embeddings.
    assert students.distillation_score.to_list() == pytest.approx((0.25 + 0.5 * (1 - students.teacher_share)).to_list())
    expected = 0.5 * 15 / 18 + 0.5 * (1 - students.teacher_share)
    assert students.distillation_score_total.to_list() == pytest.approx(expected.to_list())


def test_alpha_is_a_parameter_between_0_and_1(small):
    lighter = plan(**SMALL, analysis={"distillation_alpha": 0.25})
    rows = efficiency(lighter)
    assert rows[rows.method == "teacher"].distillation_score.to_list() == pytest.approx([0.25, 0.25])
    for wrong in ({"distillation_alpha": 1.5}, {"distilation_alpha": 0.5}):
        with pytest.raises(UserError, match="distil"):
            plan(**SMALL, analysis=wrong)


def test_without_a_teacher_there_is_no_score(small):
    small.teachers[0].marker.unlink()
    assert efficiency(small)["distillation_score"].isna().all()


def test_a_score_below_chance_is_no_share_of_the_teacher_s_and_makes_no_distillation_score(project, monkeypatch):
    monkeypatch.setitem(QUALITY, "soft", 0.3)
    study = write_study(plan(study={"tasks": ["acceptability"], "methods": ["soft", "stacked"]}))
    rows = efficiency(study).set_index(["metric", "method"])
    main = pd.read_csv(study.folder / "tables" / "main.csv", dtype={"id": str}).set_index(["metric", "method"])
    negative = ("matthews_correlation", "soft")
    assert main.loc[negative, "mean"] < 0 and pd.isna(main.loc[negative, "teacher_share"])
    assert rows.loc[negative, ["teacher_share", "distillation_score", "distillation_score_std"]].isna().all()
    assert rows.loc[("accuracy", "soft"), "teacher_share"] > 0
    assert rows.loc[("matthews_correlation", "stacked"), "distillation_score"] > 0
    (line,) = [line for line in markdown_of(study).splitlines() if "| soft |" in line]
    assert "| Matthews -" in line and "(3) | – | – |" in line


def markdown_of(study):
    return (study.folder / "tables" / "efficiency.md").read_text()


def test_a_share_and_a_score_carry_the_spread_of_the_seeds(study):
    rows = efficiency(study)
    main = pd.read_csv(study.folder / "tables" / "main.csv", dtype={"id": str})
    teachers = main[main.method == "teacher"].set_index(["task", "metric"])["mean"]
    of_teacher = [teachers[task, metric] for task, metric in zip(main.task, main.metric, strict=True)]
    assert rows.teacher_share_std.to_list() == pytest.approx((main["std"] / of_teacher).to_list())
    assert rows.distillation_score_std.to_list() == pytest.approx((rows.teacher_share_std / 2).to_list())
    row = rows[(rows.task == "entailment") & (rows.metric == "accuracy") & (rows.method == "soft")].iloc[0]
    shares = f"{100 * row.teacher_share:.0f} ± {100 * row.teacher_share_std:.0f} %"
    assert f"(3) | {shares} | {row.distillation_score:.3f} ± {row.distillation_score_std:.3f} |" in markdown_of(study)


def test_one_seed_has_no_spread(project):
    study = write_study(plan(study={"tasks": ["entailment"], "methods": ["soft"], "seeds": [1]}))
    students = efficiency(study).query("method == 'soft'")
    assert students.teacher_share.notna().all() and students.teacher_share_std.isna().all()
    assert "±" not in next(line for line in markdown_of(study).splitlines() if "| soft |" in line)


def test_latencies_stand_beside_sizes_where_they_were_measured(small):
    assert efficiency(small).latency_ms.isna().all()
    assert "ms for" not in (small.folder / "tables" / "efficiency.md").read_text()
    common = (1, "fp32", "a machine, 2 logical cores", "torch 2")
    lines = [(6, 1, 8.0, 1.0), (6, 32, 90.0, 1.0), (3, 1, 4.0, 2.0), (3, 32, 50.0, 1.8)]
    write_latencies(
        small, [LatencyRow("entailment", 12, n, b, 9, ms, ms - 1, ms + 1, up, *common) for n, b, ms, up in lines]
    )
    rows = efficiency(small)
    assert rows[rows.method == "teacher"].latency_ms.to_list() == [8.0, 8.0]
    students = rows[rows.method != "teacher"]
    assert set(students.latency_ms) == {4.0} and set(students.speed_up_batch) == {1.8}
    text = (small.folder / "tables" / "efficiency.md").read_text()
    assert "| 4.0 / 50 | 2.00× / 1.80× |" in text
    assert "this machine: a machine, 2 logical cores. Another machine gives other figures" in text


def test_a_speed_up_is_said_to_be_the_median_of_ratios(small):
    common = (12, 3, 1, 9, 4.0, 3.0, 5.0, 2.1, 1, "fp32", "a machine", "torch 2")
    write_latencies(small, [LatencyRow("entailment", *common)])
    score_runs(small)
    assert "Speed-up: the median of the ratios taken round by round, not the ratio of the medians" in markdown_of(small)


def timed(study, seconds, devices=("cpu, 2 threads",) * 3):
    """Write what the seeds of one method took, and where; None where it is not recorded."""
    runs = [run for run in study.students if run.method.name == "soft"]
    for run, taken, device in zip(runs, seconds, devices, strict=False):
        write_record(run, ["history.jsonl", "predictions.parquet"], seconds=taken, device=device)
    rows = efficiency(study).query("method == 'soft' and metric == 'accuracy'")
    names = ("training_seconds", "training_seconds_least", "training_seconds_most", "training_device")
    (line,) = [line for line in markdown_of(study).splitlines() if "| soft |" in line]
    return [None if pd.isna(rows[name].item()) else rows[name].item() for name in names], line.split("|")[-2].strip()


def soft(seeds):
    return write_study(plan(study={"tasks": ["entailment"], "methods": ["soft"], "seeds": seeds}))


def test_a_row_says_the_median_seconds_of_its_trainings_with_least_and_most(project):
    numbers, text = timed(soft([1, 2, 3]), (1972.0, 410.0, 444.0))
    assert numbers == [444.0, 410.0, 1972.0, "cpu, 2 threads"] and text == "444 (410 to 1,972)"


def test_the_time_of_one_seed_has_no_range(project):
    assert timed(soft([1]), (1234.0,)) == ([1234.0, None, None, "cpu, 2 threads"], "1,234")


def test_only_finished_seeds_and_recorded_times_count(project):
    study = soft([1, 2, 3])
    lost = next(run for run in study.students if run.seed == 3)
    (lost.folder / "predictions.parquet").write_bytes(b"cut short")
    assert timed(study, (100.0, None)) == ([100.0, None, None, "cpu, 2 threads"], "100")
    assert timed(study, (None, None)) == ([None] * 4, "–")


def test_times_of_several_devices_make_no_figure(project):
    numbers, text = timed(soft([1, 2, 3]), (444.0, 410.0, 20.0), ("cpu, 2 threads", "cpu, 2 threads", "a GPU"))
    assert numbers == [None] * 4 and text == "–"


def test_the_note_says_what_a_training_time_counts_and_where_it_was_taken(project):
    study = soft([1, 2])
    timed(study, (444.0, 410.0), ("a GPU", "a GPU"))
    text = " ".join(markdown_of(study).split())
    assert "one model's training from loading to writing it, scoring the dev set included" in text
    assert "Neither recording the teacher's outputs, once for all students, nor training the teacher" in text
    assert "(here: a GPU; cpu;" in text and "where the machine did the same work meanwhile" in text
    assert "docs/performance.md has ratios measured side by side" in text


def test_sizes_are_shares_of_the_teachers_without_and_with_embeddings(small):
    rows = efficiency(small)
    assert rows[rows.method == "soft"].total_share.to_list() == pytest.approx([15 / 18] * 2)
    text = markdown_of(small)
    assert "| of the teacher's (with embeddings) |" in text and "| 3.0M | 50 % (83 %) |" in text
    small.teachers[0].marker.unlink()
    score_runs(small)
    assert "| 3.0M | – |" in markdown_of(small)


def written(study):
    score_runs(study)
    compare_runs(study)
    measure_fidelity(study)
    map_attention(study)
    return {name: (study.folder / "tables" / f"{name}.tex").read_text() for name in TEX_TABLES}


def body_of(tex):
    return re.search(r"\\toprule\n(.*)\\bottomrule", tex, re.DOTALL).group(1)


def test_every_table_is_a_whole_booktabs_tabular(study):
    for name, tex in written(study).items():
        columns = re.search(r"\\begin\{(tabular|longtable)\}\{([lrc]+)\}", tex).group(2)
        lines = [line for line in body_of(tex).splitlines() if not line.startswith("\\")]
        assert lines, name
        for line in lines:
            assert line.endswith(" \\\\"), name
            assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1, name
            assert not re.search(r"(?<!\\)[%_#]", line), name
            assert line.isascii(), name
        markdown_text = (study.folder / "tables" / f"{name}.md").read_text()
        assert markdown_text.count("\n| ") + 1 == len(lines) + 1, name


def test_numbers_are_rounded_as_in_markdown():
    table = TextTable(("a_b", "p"), (("50 % & more", "< 0.001"), ("[x]", "1.2 ± 0.3")), "lr", ("100 % of\nit",))
    assert markdown(table).splitlines()[2:4] == ["| 50 % & more | < 0.001 |", "| [x] | 1.2 ± 0.3 |"]
    tex = latex(table)
    assert "a\\_b & p \\\\" in tex
    assert "50 \\% \\& more & $<$ 0.001 \\\\" in tex
    assert "{[}x{]} & 1.2 $\\pm$ 0.3 \\\\" in tex
    assert tex.endswith("\\end{tabular}\n% 100 % of it\n")


def test_a_table_longer_than_a_page_breaks_over_pages():
    tex = latex(TextTable(("a",), tuple((str(n),) for n in range(100)), "l"))
    assert "\\usepackage{booktabs,longtable}" in tex and "\\begin{longtable}{l}" in tex and "\\endhead" in tex


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_reads_every_table(small, tmp_path):
    inputs = "\n\n".join(rf"\input{{{small.folder}/tables/{name}.tex}}" for name in written(small))
    page = rf"\documentclass{{article}}\usepackage{{booktabs,longtable}}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "page.tex").write_text(page)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout[-500:]
