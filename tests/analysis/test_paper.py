"""The published figures beside ours: nothing invented, and nothing compared that is of another encoder or task."""

import csv
import json

import pytest
from fake_runs import ROOT
from held_studies import INTERNAL, LAYERS, held

from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.paper import PAPER_COLUMNS, paper_text, read_claims, read_paper_lines
from internal_kd.analysis.scoring import score_runs
from internal_kd.errors import UserError
from internal_kd.operations.sizes import GLUE_SIZES
from internal_kd.params import merge

QUALITY = {("1.0",): 0.95, ("2.0",): 0.8, ("3.0",): 0.8} | {(row,): 0.85 for row in INTERNAL}
PAIR = ("soft", "stacked")
CLAIMS = ROOT / "paper/claims.yaml"


def line_of(lines, system, task, metric, rows):
    return next(x for x in lines if (x.system, x.task, x.metric, x.rows) == (system, task, metric, rows))


def test_unknown_cells_stay_empty_and_known_ones_are_compared():
    lines = held(QUALITY, taught=PAIR).lines()
    papers = [line for line in lines if line.kind == "paper"]
    known = [line for line in papers if line.paper is not None]
    assert len(known) == 5
    assert all(line.status == "unverified" for line in known)
    assert all(line.paper is None and line.difference is None for line in papers if line.status == "unknown")
    teacher = line_of(known, "paper", "qqp", "accuracy", "1.0")
    assert teacher.paper == pytest.approx(0.9144)
    assert teacher.difference == pytest.approx(teacher.ours - 0.9144)
    assert (teacher.seeds, teacher.differs) == (3, "")
    assert teacher.low < teacher.ours < teacher.high
    assert teacher.std > 0


def test_of_several_rows_the_finished_ones_are_named_and_the_best_chosen_anew():
    one = held(QUALITY, study={"tasks": ["qqp"]})
    line = line_of(one.lines(), "paper, best of", "qqp", "accuracy", " ".join(INTERNAL))
    assert (line.compared, line.differs) == ("3.3 3.5", "rows")
    arms = [arm for arm in one.arms.values() if arm.cell.id in INTERNAL]
    best = max(arms, key=lambda arm: arm.mean)
    assert (line.method, line.ours) == (best.cell.method, best.mean)
    assert (line.low, line.high) > best.interval


@pytest.mark.parametrize(
    ("overlay", "differs"),
    [
        ({"layer": LAYERS // 4}, "encoder"),
        ({"study": {"examples": [2400]}}, "size"),
        ({"study": {"depths": [12]}}, "depth"),
        ({"train": {"qqp": 1000}}, "data"),
        ({"study": {"tasks": ["rte"]}}, "task"),
    ],
)
def test_what_is_of_another_kind_is_not_compared(overlay, differs):
    only = {"study": {"tasks": ["qqp"]}}
    line = line_of(held(QUALITY, taught=PAIR, **merge(only, overlay)).lines(), "KD-6", "qqp", "accuracy", "3.0")
    assert differs in line.differs.split()
    assert (line.ours, line.std, line.low, line.difference, line.compared) == (None, None, None, None, "")


def test_another_training_is_shown_and_named():
    one = held(QUALITY, taught=PAIR, study={"tasks": ["qqp"], "seeds": [1]}, student={"epochs": 31})
    line = line_of(one.lines(), "KD-6", "qqp", "accuracy", "3.0")
    assert line.ours is not None
    assert line.differs == "training seeds"


def laid_out(**overlay) -> dict[str, str]:
    """Return KD-6's accuracy on RTE as a line of the text table."""
    table = paper_text(held(QUALITY, taught=PAIR, study={"tasks": ["rte"]}, **overlay).lines())
    line = next(line for line in table.lines if line[:4] == ("KD-6", "rte", "accuracy", "3.0"))
    return dict(zip(table.header, line, strict=True))


def test_the_laid_out_table_has_spread_seeds_and_interval():
    line = laid_out()
    assert " ± " in line["ours"]
    assert line["ours"].endswith(" (3)")
    assert " to " in line["95 % interval"]
    assert line["differs in"] == "–"
    line = laid_out(layer=LAYERS // 4)
    assert (line["ours"], line["95 % interval"], line["difference"], line["differs in"]) == ("–", "–", "–", "encoder")


def test_a_study_on_disk_has_its_verdicts_and_lines(small):
    score_runs(small)
    compare_runs(small)
    tables = small.folder / "tables"
    claims = json.loads((tables / "claims.json").read_text())["claims"]
    assert {claim["verdict"] for claim in claims} == {"not shown"}
    with (tables / "paper.csv").open() as handle:
        assert tuple(csv.DictReader(handle).fieldnames) == PAPER_COLUMNS
    lines = read_paper_lines(tables / "paper.csv")
    assert lines and all(line.ours is None and "task" in line.differs for line in lines)
    (tables / "paper.csv").write_text("kind,system\npaper,paper\n")
    with pytest.raises(UserError, match="not whole"):
        read_paper_lines(tables / "paper.csv")


def test_a_project_without_claims_has_none(small, project):
    (project / "paper" / "claims.yaml").unlink()
    score_runs(small)
    compare_runs(small)
    assert json.loads((small.folder / "tables" / "claims.json").read_text())["claims"] == []


def test_the_projects_claims_file_is_understood():
    known = read_claims(CLAIMS)
    assert {claim.status for claim in known.claims} <= {"stated", "arithmetic", "unverified"}
    assert known.setting.teacher_encoder_parameters == 85_645_056
    assert all(GLUE_SIZES[task][:2] == sizes for task, sizes in known.setting.examples.items())


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("kind: share", "kind: shares", r"claims\.1\.kind"),
        ("glue: [cola]", "glue: [coal]", "unknown task 'coal' .did you mean 'cola'"),
        ('rows: ["3.5", "3.6", "3.7"]', 'rows: ["3.5", "3.6", "3.9"]', "unknown row '3.9'"),
    ],
)
def test_a_misspelt_entry_is_named(tmp_path, right, wrong, said):
    text = CLAIMS.read_text()
    assert right in text
    (tmp_path / "claims.yaml").write_text(text.replace(right, wrong))
    with pytest.raises(UserError, match=said):
        read_claims(tmp_path / "claims.yaml")
