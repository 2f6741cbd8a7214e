"""The pages of results: what their tables say is what the CSV files beside them say."""

import csv
import re
import shutil
from pathlib import Path

import pytest
from result_pages import CSV_FILES, KINDS, problems_with

from analysis.fake_runs import plan, write_study
from internal_kd.analysis.attention import map_attention
from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.fidelity_tables import measure_fidelity
from internal_kd.analysis.scoring import score_runs

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
PAGES = sorted(path for path in RESULTS.glob("*.md") if path.name != "README.md")
OWN_TABLES = ("main", "comparisons", "fidelity", "fidelity_comparisons", "efficiency", "calibration", "attention")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_its_csv_files_say(page):
    assert problems_with(page) == []


def test_every_page_is_in_the_list_and_every_folder_has_a_page():
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (RESULTS / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == [page.name for page in PAGES]
    assert {path.name for path in RESULTS.iterdir() if path.is_dir()} <= {page.stem for page in PAGES}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A page that consists of the pipeline's own tables."""
    project = tmp_path_factory.mktemp("project")
    chosen = {"tasks": ["entailment"], "methods": ["finetuned", "soft", "stacked"], "examples": [100, "full"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        study = write_study(plan(study=chosen | {"seeds": [1, 2]}))
        for step in (score_runs, compare_runs, measure_fidelity, map_attention):
            step(study)
        tables = project / study.folder / "tables"
    (project / "page").mkdir()
    for name in CSV_FILES:
        shutil.copy(tables / f"{name}.csv", project / "page")
    parts = [(tables / f"{name}.md").read_text().split("\n\n")[0] for name in OWN_TABLES]
    named = " ".join(f"`{name}.csv`" for name in CSV_FILES)
    (project / "page.md").write_text("\n\n".join([f"# A page\n\n{named}", *parts]) + "\n")
    return project


@pytest.fixture
def page(made, tmp_path):
    shutil.copytree(made / "page", tmp_path / "page")
    return Path(shutil.copy(made / "page.md", tmp_path))


def test_the_pipeline_s_own_tables_agree_with_its_own_files(page):
    assert {kind for kind, _ in KINDS} == set(OWN_TABLES)
    assert problems_with(page) == []


# A number of each table, with what tells its line from those of the other tables.
NUMBERS = {
    "main": r"\| Soft labels .* \| (\d\d\.\d) ± ",
    "comparisons": r"^\| Entailment, L3.* \| accuracy \| .* / \d \| ([+-]\d+\.\d) \|",
    "fidelity": r"\(\d+ %\) \| ([+-]\d+\.\d) \(",
    "fidelity_comparisons": r"^\| Entailment, L3.* / \d \| ([+-]\d+\.\d) \(",
    "efficiency": r"% \| (\d\.\d{3}) ± ",
    "calibration": r"\| 2 \| \d+\.\d ± \d+\.\d \| (\d+\.\d) \|",
}


@pytest.mark.parametrize("name", NUMBERS)
def test_another_number_is_found(page, name):
    text = page.read_text()
    found = re.search(NUMBERS[name], text, re.MULTILINE)
    other = found.group(1)[:-1] + str((int(found.group(1)[-1]) + 5) % 10)
    page.write_text(text[: found.start(1)] + other + text[found.end(1) :])
    (problem,) = problems_with(page)
    assert problem.startswith(f"{name}.csv, ") and other in problem


def test_another_training_time_or_size_is_found(page):
    text = page.read_text()
    for shown, other in ((" | 12 (12 to 12) |", " | 12 (12 to 99) |"), ("| 50 % (83 %) |", "| 50 % (38 %) |")):
        assert shown in text
        page.write_text(text.replace(shown, other, 1))
        (problem,) = problems_with(page)
        assert problem.startswith("efficiency.csv, ") and other.strip(" |") in problem


def test_an_interval_beside_a_score_is_that_of_cells_csv(page):
    first = {}
    for name in ("cells", "main"):
        with (page.parent / f"page/{name}.csv").open(newline="") as handle:
            first[name] = next(line for line in csv.DictReader(handle) if line["id"] == "3.0")
    cell, size = first["cells"], float(first["main"]["encoder_parameters"]) / 1e6
    low, high = (100 * float(cell[name]) for name in ("low", "high"))
    table = "\n| id | layers | examples | parameters | 95 % interval |\n|---|---|---|---|---|\n"
    table += f"| 3.0 | {cell['depth']} | {cell['examples']} | {size:.1f}M | {low:.1f} to {high:.1f} |\n"
    text = page.read_text()
    page.write_text(text + table)
    assert problems_with(page) == []
    page.write_text(text + table.replace(f"{low:.1f} to", f"{low - 1:.1f} to"))
    (problem,) = problems_with(page)
    assert "95 % interval says" in problem


def test_a_line_of_no_run_is_found(page):
    page.write_text(page.read_text().replace("| 3.5 | Stacked", "| 3.9 | Stacked"))
    assert any(problem.startswith("main.csv, 3.9") and problem.endswith(": 0 lines") for problem in problems_with(page))


def test_files_and_pictures_that_are_not_there_are_found(page):
    (page.with_suffix("") / "cells.csv").unlink()
    page.write_text(
        page.read_text().replace("`main.csv`", "main") + "\n![drawn](page/main.png)\n| a | b |\n|---|---|\n"
    )
    assert problems_with(page) == [
        "cells.csv is named and not in page/",
        "main.csv is in page/ and not named",
        "page/main.png is not there",
        "no CSV file is known for a table of a, b",
    ]
