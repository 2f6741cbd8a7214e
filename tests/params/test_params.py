"""Parameters: what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from internal_kd.errors import UserError
from internal_kd.params import load_params, merge, parse_params, read_yaml, with_nulls
from tiny_study import ROOT

PAPER = read_yaml(ROOT / "params.yaml")
OWN = {"source": "files", "train": "a.csv", "dev": "b.csv", "text": ["q"]}


@pytest.mark.parametrize("overlay", [None, *sorted((ROOT / "config").rglob("*.yaml"))], ids=str)
def test_every_study_that_comes_along_is_valid(overlay):
    params = load_params(ROOT / "params.yaml", laid_over(overlay) if overlay else [])
    assert set(params.analysis.primary.get("rows", ())) <= set(params.study.methods or params.methods)


def laid_over(overlay: Path) -> list[Path]:
    """The overlays of the command that a study's first lines give, which ends in its own name; or it alone."""
    for line in overlay.read_text().splitlines():
        _, _, named = line.partition("--overlay ")
        if named.endswith(f" {overlay.relative_to(ROOT)}"):
            return [ROOT / name for name in named.split()]
    return [overlay]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"defaults": {"epohcs": 3}}, "defaults: unknown parameter 'epohcs' (did you mean 'epochs'?)"),
        ({"defualts": {}}, "unknown parameter 'defualts' (did you mean 'defaults'?)"),
        ({"methods": {"soft": {"teacher": {"off": "teacher"}}}}, "unknown parameter 'off' (did you mean 'of'?)"),
        ({"methods": {"soft": {"teacher": {"seed": 1}}}}, "methods.soft.teacher: names nobody"),
        ({"methods": {"soft": {"teacher": {"of": "a", "folder": "b"}}}}, "names `of` and `folder`: give one of them"),
        ({"methods": {"soft": {"teacher": {"of": "a", "seed": 1, "seeds": [1, 2]}}}}, "`seed` or `seeds`, not both"),
        ({"methods": {"soft": {"teacher": {"hub": "somebody/model"}}}}, "`hub` needs `revision`"),
        ({"methods": {"none": {"id": "9", "weights": {"hard": 1}}}}, "'none' has a meaning of its own"),
        ({"methods": {"soft": {"id": "2.0"}}}, "methods.soft.id: '2.0' is the row of 'finetuned' already"),
        ({"methods": {"soft": {"id": "1.0"}}}, "methods.soft.id: '1.0' is the row of 'teacher' already"),
        (
            {"methods": {"soft": {"compare_with": ["finetund"]}}},
            "unknown method 'finetund' (did you mean 'finetuned'?)",
        ),
        ({"methods": {"soft": {"compare_with": ["soft"]}}}, "methods.soft.compare_with: unknown method 'soft'"),
        ({"methods": {"soft": {"compare_with": ["stacked", "stacked"]}}}, "compare_with: names stacked twice"),
        ({"methods": {"soft": {"curriculum": {"phase": []}}}}, "unknown parameter 'phase' (did you mean 'phases'?)"),
        ({"study": {"methods": ["soft_cosine"]}}, "unknown method 'soft_cosine' (did you mean 'soft_cos'?)"),
        ({"study": {"tasks": ["clola"]}}, "unknown task 'clola' (did you mean 'cola'?)"),
        ({"study": {"vary": {"temprature": [1, 2]}}}, "study.vary: 'temprature' is not a key of a method"),
        ({"study": {"vary": {"temperature": []}}}, "study.vary.temperature: should have at least 1 entry"),
        ({"tasks": {"rte": {"methods": {"sotf": {"epochs": 2}}}}}, "tasks.rte.methods: unknown method 'sotf'"),
        ({"tasks": {"colla": None}}, "'colla' is not a GLUE task (did you mean 'cola'?)"),
        ({"study": {"seeds": [1, 1]}}, "study.seeds: names 1 twice"),
        ({"methods": {"soft": {"teacher": ["teacher", "teacher"]}}}, "methods.soft.teacher: names teacher twice"),
        ({"study": {"seeds": []}}, "study.seeds"),
        ({"study": {"tasks": []}}, "study.tasks"),
        ({"defaults": {"epochs": 0}}, "defaults.epochs: should be greater than or equal to 1 (given: 0)"),
        ({"defaults": {"epochs": True}}, "defaults.epochs"),
        ({"defaults": {"learning_rate": float("nan")}}, "defaults.learning_rate"),
        ({"defaults": {"select": {"keep": 0}}}, "defaults.select.keep: should be `full`, a number of examples"),
        ({"analysis": {"alpha": 0}}, "analysis.alpha"),
        ({"encoder": {"revision": "main"}}, "encoder.revision"),
        ({"encoder": {"source": "folder"}}, "source 'folder' needs `path`"),
        ({"data": {"root": "../glue"}}, "leaves the project: give it as an absolute path"),
        ({"study": {"name": "../up"}}, "study.name"),
        ({"study": {"name": "runs"}}, "study.name: results/runs/ holds the runs of all studies"),
        ({"tasks": {"../up": {"source": "generator", "grammar": "entailment"}}}, "tasks"),
        ({"methods": {"a/b": {"id": "9", "weights": {"hard": 1}}}}, "methods"),
        ({"encoder": {"name": "a/../../b"}}, "encoder.name"),
        ({"encoder": {"source": "folder", "path": "models/../../e"}}, "encoder.path: relative path"),
        ({"encoder": {"source": "package", "package": "p", "folder": "../up"}}, "encoder.folder: relative path"),
        ({"tasks": {"rte": {"folder": "../../etc"}}}, "tasks.rte.folder: relative path"),
        ({"tasks": {"mine": OWN | {"train": "../a.csv"}}}, "tasks.mine.train: relative path"),
        ({"tasks": {"mine": OWN | {"text": ["q", "q"]}}}, "tasks.mine.text: names q twice"),
        ({"tasks": {"mine": OWN | {"labels": [1, "1"]}}}, "tasks.mine.labels: names 1 twice"),
        (
            {"tasks": {"mine": {"source": "images", "train": "a", "dev": "b", "labels": [1, "1"]}}},
            "tasks.mine.labels: names 1 twice",
        ),
        ({"tasks": {"mine": OWN | {"text": ["q", "label"]}}}, "column 'label' is the label and among `text`"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(changes: dict[str, Any], said: str):
    with pytest.raises(UserError) as refused:
        parse_params(merge(PAPER, changes))
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).startswith("params.yaml: ")


# Each line merges the one before nine times.
BOMB = "x0: &x0 {" + ", ".join(f"{key}: 1" for key in "abcdefghi") + "}\n"
BOMB += "".join(f"x{n + 1}: &x{n + 1} {{<<: [{', '.join([f'*x{n}'] * 9)}]}}\n" for n in range(9))
NAME = "letters, digits, `_`, `.` and `-`, the first one a letter or a digit, at most 80 of them"
MADE = {"source": "generator", "grammar": "entailment"}
LAYERS = "should be 'uniform', 'spread', 'first', 'last', 'skip' or 'last_below_top', or a list"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"study": {"seeds": [-1, -2], "name": 3}},
            "study.name: should be text (between quotes) (given: 3) (and 2 more)",
        ),
        ({"study": {"methods": "soft"}}, "study.methods: should be a list such as [soft] (given: 'soft')"),
        ({"study": {"vary": {"epochs": 3}}}, "study.vary.epochs: should be a list such as [3] (given: 3)"),
        ({"study": {"seeds": None}}, "study.seeds: should be a list (given: null)"),
        ({"study": {"tasks": []}}, "study.tasks: should have at least 1 entry"),
        (
            {"defaults": {"layer_map": "unifrom"}},
            f"defaults.layer_map: {LAYERS} (given: 'unifrom') (did you mean 'uniform'?)",
        ),
        ({"defaults": {"layer_map": 3}}, f"defaults.layer_map: {LAYERS} such as [3] (given: 3)"),
        ({"defaults": {"layer_map": [1, 0]}}, "defaults.layer_map.1: should be greater than or equal to 1 (given: 0)"),
        ({"methods": {"soft": {"id": 4.1}}}, "methods.soft.id: should be text (between quotes) (given: 4.1)"),
        (
            {"tasks": {"m": OWN | {"labels": [1.5, 2]}}},
            "tasks.m.labels.0: should be text (between quotes), or a whole number (given: 1.5)",
        ),
        ({"tasks": {"m": OWN | {"text": ["a", "b", "c"]}}}, "tasks.m.text: should have at most 2 entries"),
        ({"tasks": {"m": {"source": "files"}}}, "tasks.m.train: is missing"),
        (
            {"tasks": {"m": {"source": "fles"}}},
            "tasks.m.source: should be one of 'glue', 'files', 'generator', 'images' (given: 'fles') "
            "(did you mean 'files'?)",
        ),
        ({"tasks": {"m": {"glue": "rte", "folder": 3}}}, "tasks.m.folder: should be text (between quotes) (given: 3)"),
        ({"tasks": {"rte": True}}, "tasks.rte: should be a group of `key: value` lines (given: true)"),
        ({"machine": 6}, "machine: should be a group of `key: value` lines (given: 6)"),
        (
            {"tasks": {"my task": MADE}},
            f"tasks.my task: the name should be {NAME} (given: 'my task')",
        ),
        (
            {"tasks": {"my task": MADE | {"train": 0}}},
            f"tasks.my task: the name should be {NAME} (given: 'my task') (and 1 more)",
        ),
        (
            {"methods": {"soft": {"weights": {3: 1}}}},
            "methods.soft.weights.3: the name should be text (between quotes) (given: 3)",
        ),
    ],
)
def test_a_mistake_is_told_in_the_words_of_yaml_and_counted_once(changes: dict[str, Any], said: str):
    with pytest.raises(UserError) as refused:
        parse_params(merge(PAPER, changes))
    line = str(refused.value).removeprefix("params.yaml: ")
    assert line == said


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"tasks": {"own": {"source": 16**5000}}}, "tasks.own.source"),
        ({"defaults": {"epochs": -(16**5000)}}, "defaults.epochs"),
        ({"study": {"seeds": [1, 16**5000]}}, "study.seeds.1"),
        ({"machine": {16**5000: 1}}, "machine"),
    ],
)
def test_a_number_of_more_digits_than_python_writes_is_named_without_them(changes: dict[Any, Any], where: str):
    with pytest.raises(UserError, match=rf"^params\.yaml: {where}: number too large"):
        parse_params(merge(PAPER, changes))


def test_a_missing_section_is_named():
    with pytest.raises(UserError, match=r"params\.yaml: encoder: is missing"):
        parse_params({key: value for key, value in PAPER.items() if key != "encoder"})


def test_a_key_given_twice_is_refused(tmp_path: Path):
    (tmp_path / "p.yaml").write_text("a: 1\nb: 2\na: 3\n")
    with pytest.raises(UserError, match="key 'a' is given twice"):
        read_yaml(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("runtime: 4:00:00", "line 1: 4:00:00 is 14400 in YAML (base 60)"),
        ("a: 1\nrate: 1:30.5", "line 2: 1:30.5 is 90.5 in YAML (base 60)"),
        ("labels: [001, 010]", "line 1: 001 is 1 in YAML (base 8)"),
        ("a: 1\nb: [1, 2", "line 2: expected"),
        (BOMB, "too many merged"),
    ],
)  # fmt: skip
def test_what_yaml_reads_as_something_else_is_refused_with_its_line(tmp_path: Path, written: str, said: str):
    (tmp_path / "p.yaml").write_text(written)
    with pytest.raises(UserError, match=r"p\.yaml line") as refused:
        read_yaml(tmp_path / "p.yaml")
    assert said in str(refused.value)


@pytest.mark.parametrize("number", ["2e-5", "1e5", "2024", "1.0", "0o17", "0x1F", "1_000"])
def test_no_name_looks_like_a_number(number: str):
    # Unquoted, DVC reads the study 2e-5 as 0.00002 and looks for results/2e-05/.
    for changes in ({"study": {"name": number}}, {"tasks": {number: MADE}}):
        with pytest.raises(UserError, match=f"YAML may read {number} as a number"):
            parse_params(merge(PAPER, changes))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text", "a: [1, 2", "\x00", "a: !!python/object:os.system {}"])
def test_what_is_no_mapping_is_one_line(tmp_path: Path, text: str):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(UserError) as refused:
        read_yaml(tmp_path / "p.yaml")
    assert "p.yaml" in str(refused.value) and "\n" not in str(refused.value)


def test_numbers_that_a_command_line_hands_over_as_text_count_as_numbers():
    given = {"study": {"seeds": ["1", "2"]}, "defaults": {"learning_rate": "3e-5", "select": {"keep": "1000"}}}
    params = parse_params(merge(PAPER, given))
    assert params.study.seeds == (1, 2) and params.defaults.select.keep == 1000
    assert params.defaults.learning_rate == 3e-5


def test_overlays_merge_mapping_by_mapping_and_replace_lists():
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merge(base, {"a": {"y": [3]}, "c": 2}) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": 2}
    assert base["a"]["y"] == [1, 2]


@pytest.mark.parametrize(
    ("overlay", "path", "expected"),
    [
        # Another encoder never has the licence, or the checksums, of the one before.
        ({"encoder": {"name": "mine", "source": "folder", "path": "e"}}, ("encoder",),
         {"name": "mine", "source": "folder", "path": "e"}),
        ({"encoder": {"source": "folder", "path": "e"}}, ("encoder",),
         {"name": "bert-base-uncased", "source": "folder", "path": "e"}),
        ({"encoder": {"id": "a/b"}}, ("encoder",), {"name": "bert-base-uncased", "source": "hub", "id": "a/b"}),
        ({"defaults": {"teacher": {"folder": "models/ours"}}}, ("defaults", "teacher"), {"folder": "models/ours"}),
        ({"methods": {"soft": {"weights": {"hard": 1}}}}, ("methods", "soft", "weights"), {"hard": 1}),
        ({"defaults": {"learner": {"kind": "mlp", "widths": [8]}}}, ("defaults", "learner"),
         {"kind": "mlp", "widths": [8]}),
        ({"tasks": {"cola": {"source": "files", "train": "a.csv"}}}, ("tasks", "cola"),
         {"source": "files", "train": "a.csv"}),
    ],
)  # fmt: skip
def test_what_is_one_thing_is_replaced(overlay: dict[str, Any], path: tuple[str, ...], expected: dict[str, Any]):
    found: Any = merge(PAPER | {"tasks": {"cola": {"defaults": {"epochs": 3}}}}, overlay)
    for key in path:
        found = found[key]
    assert found == expected


def test_null_takes_back_what_another_file_varies():
    varied = merge(PAPER, {"study": {"vary": {"temperature": [1, 2], "learner.layers": [3, 6]}}})
    assert set(parse_params(merge(varied, {"study": {"vary": {"temperature": None}}})).study.vary) == {"learner.layers"}


def test_a_change_of_the_same_encoder_keeps_the_rest():
    assert merge(PAPER, {"encoder": {"licence": "mit"}})["encoder"]["layers"] == 12
    assert merge(PAPER, {"methods": {"teacher": {"epochs": 3}}})["methods"]["teacher"]["id"] == "1.0"


def test_null_on_the_command_line_is_null_and_not_a_word():
    from snakemake.cli import parse_config
    from snakemake.utils import update_config

    given = parse_config(["data={root: null}", "methods={soft: {title: ~, epochs: 3}}", "study={tasks: }"])
    config = read_yaml(ROOT / "params.yaml")
    config["data"]["root"] = "null"  # in a file a text between quotes
    config["methods"]["soft_kl"]["title"] = "null"
    update_config(config, given)
    params = parse_params(with_nulls(config, given))
    assert params.data.root is None and params.study.tasks is None
    assert (params.methods["soft"].title, params.methods["soft"].epochs) == (None, 3)
    assert params.methods["soft_kl"].title == "null"
    with pytest.raises(UserError, match=r"defaults\.epochs: .* \(given: null\)"):
        parse_params(
            with_nulls(merge(PAPER, parse_config(["defaults={epochs: null}"])), {"defaults": {"epochs": "null"}})
        )
