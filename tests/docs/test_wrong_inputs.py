"""The page of inputs that go wrong: every line that it prints is one that somebody sees."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_plans import planned_data
from docs.pages import ROOT
from internal_kd.data.answers_file import read_answers
from internal_kd.data.answers_match import align
from internal_kd.data.images import read_folder, read_idx
from internal_kd.data.own_tags import fetch_own_tags
from internal_kd.errors import UserError
from internal_kd.files import read_mapping
from internal_kd.learners.configs import read_config, shape_of_config
from internal_kd.learners.finished import column_order
from internal_kd.params import merge, parse_params, read_yaml
from internal_kd.steps.fetch import fetch_task

PAGE = ROOT / "docs/reference/wrong-inputs.md"
# The last column, as a code span; two backticks around one that has some inside.
LINES = [
    one or two
    for one, two in re.findall(r"\| (?:`([^`]+)`|`` (.+?) ``) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
]


def rows(labels: Sequence[Any], text: str = "word") -> str:
    return "text,label\n" + "".join(f"{text}{n},{label}\n" for n, label in enumerate(labels))


def task(content: str | bytes, dev: str | bytes | None = None, *, ending: str = "csv", **given: Any) -> list[str]:
    """What is printed of a task with these files."""
    files = {}
    for split, held in (("train", content), ("dev", content if dev is None else dev)):
        files[split] = Path(f"{split}.{ending}")
        files[split].write_bytes(held if isinstance(held, bytes) else held.encode())
    return fetched(files, **given)


def fetched(files: Mapping[str, Path], **given: Any) -> list[str]:
    data = planned_data({"source": "files", **{split: str(path) for split, path in files.items()}, **given})
    fetch_task(data)
    return [f"warning: tasks.mine: {line}" for line in read_mapping(data.marker)["warnings"]]


def tags(*added: tuple[Any, Any], dev: str | None = None, text: str = "tokens") -> list[str]:
    """What is printed of a task of tags: a good sentence, and those that are added to it in train."""
    good = {"text": ("Newts swim", [{"start": 0, "end": 5, "type": "SPECIES"}]), "tokens": (["Newts"], ["B-SPECIES"])}
    lines = [json.dumps({text: words, "tags": own}) for words, own in (good[text], *added)]
    Path("tags-train.jsonl").write_text("\n".join(lines))
    Path("tags-dev.jsonl").write_text(lines[0] if dev is None else json.dumps({"tokens": ["a"], "tags": [dev]}))
    entry = {"source": "files", "kind": "tags", "train": "tags-train.jsonl", "dev": "tags-dev.jsonl", "text": [text],
             "label": "tags"}  # fmt: skip
    return [f"warning: tasks.mine: {line}" for line in fetch_own_tags(planned_data(entry)).warnings]


def span(start: int, end: int) -> dict[str, Any]:
    return {"start": start, "end": end, "type": "SPECIES"}


def params(text: str) -> None:
    Path("p.yaml").write_text(text)
    parse_params(merge(read_yaml(ROOT / "params.yaml"), read_yaml("p.yaml")))


def config(**changes: Any) -> None:
    Path("config.json").write_text(json.dumps({"model_type": "bert"} | changes))
    shape_of_config(read_config(Path()))


def answers(content: str) -> None:
    Path("llm.csv").write_text(content)
    found = read_answers(Path("llm.csv"), "classes", ("no", "yes"), [("text",)])
    align(found, [0, 1], [("Fine",), ("bad",)], ("no", "yes"))


def dated() -> list[str]:
    import datetime

    for split in ("train", "dev"):
        pq.write_table(pa.table({"text": ["a"], "label": [datetime.date(2026, 1, 1)]}), f"{split}.parquet")
    files = {split: Path(f"{split}.parquet") for split in ("train", "dev")}
    return fetched(files)


def idx(*, magic: int = 0x0803, labels: int = 2, cut: int = 0) -> None:
    images, classes = Path("train-images-idx3-ubyte"), Path("train-labels-idx1-ubyte")
    images.write_bytes((struct.pack(">4I", magic, 2, 2, 2) + bytes(8))[: 24 - cut])
    classes.write_bytes(struct.pack(">2I", 0x0801, labels) + bytes(labels))
    read_idx(images, classes)


def pngs(*shapes: tuple[int, int], modes: Sequence[str] = "LL") -> None:
    oak = Path(mkdtemp(dir="."), "oak")
    oak.mkdir()
    for number, (shape, mode) in enumerate(zip(shapes, modes, strict=False)):
        Image.new(mode, shape[::-1]).save(oak / f"{number}.png")
    read_folder(oak.parent)


OWN = "{source: files, train: a.csv, dev: b.csv, text: [t]"
CASES: Mapping[str, Callable[[], Any]] = {
    "semicolons": lambda: task("text;label\nfine, really;pos\n"),
    "tabs": lambda: task("text\tlabel\nfine\tpos\n"),
    "sep": lambda: task("sep=;\ntext;label\n"),
    "no header": lambda: task("fine,pos\nbad,neg\n"),
    "column": lambda: task("text,label\na,b\n", text=("texts",)),
    "comma": lambda: task("text,label\na, b,pos\n"),
    "backslash": lambda: task('text,label\n"say \\"hi\\"",pos\n'),
    "unclosed": lambda: task('text,label\n"a,x\nb,y\n'),
    "carriage return": lambda: task("text\tlabel\na\rb\tx\n", ending="tsv"),
    "mac": lambda: task("text\tlabel\ra\tx\r", ending="tsv"),
    "utf-16": lambda: task("text,label\na,x\n".encode("utf-16")),
    "latin-1": lambda: task("text,label\ncaf\xe9,x\n".encode("latin-1")),
    "gzip": lambda: task(b"\x1f\x8b..."),
    "excel": lambda: task(b"PK\x03\x04..."),
    "lfs": lambda: task("version https://git-lfs.github.com/spec/v1\n"),
    "array": lambda: task('[{"text": "a"}]', ending="jsonl"),
    "json": lambda: task("[]", ending="json"),
    "empty": lambda: task(""),
    "scores": lambda: task(rows([n / 5 for n in range(26)] * 2)),
    "percent": lambda: task(rows(["5 %", "7 %", "7.5 %"] * 9)),
    "ids": lambda: task(rows([f"id{n}" for n in range(40)])),
    "years": lambda: task(rows([1950 + n % 60 for n in range(100)])),
    "missing": lambda: task(rows(["NaN", "x"])),
    "capitals": lambda: task(rows(["Positive", "positive", "x"])),
    "invisible": lambda: task(rows(["pos", "pos\u200b", "x"])),
    "true": lambda: task(rows([0, 1]), rows(["True"])),
    "new class": lambda: task(rows(["negative", "positive"]), rows(["neutral"])),
    "-1 in dev": lambda: task(rows([0, 1]), rows([-1])),
    "-1": lambda: task(rows([0, 1, -1] * 20), rows([0, 1], "other")),
    "list": lambda: task('text,label\na,"[\'a\', \'b\']"\n'),
    "several": lambda: task(rows(["a", "b", "a;b"] * 9)),
    "date": dated,
    "one label": lambda: task(rows(["pos"] * 20)),
    "words": lambda: task(rows(["high", "low"]), kind="values"),
    "no text": lambda: task("text,label\n,x\n"),
    "list of texts": lambda: task('{"text": ["a"], "label": "x"}\n', ending="jsonl"),
    "train is dev": lambda: task(rows(["x", "y"] * 10)),
    "overlap": lambda: task(rows(["x", "y"] * 10), f"{rows('xyy')}{rows('x' * 7, 'o')[11:]}"),
    "twice": lambda: task(rows(["x", "y"] * 9) + "word1,x\nword99,x\n", rows(["x", "y"], "other")),
    "constant": lambda: task(rows(range(9)), rows([3] * 10, "other"), kind="values"),
    "no B-": lambda: tags((["a", "Newt"], ["O", "I-SPECIES"])),
    "no tokens": lambda: tags(([], [])),
    "type in dev": lambda: tags(dev="B-HABITAT"),
    "tags differ": lambda: tags((["a", "Newt"], ["O"])),
    "spans overlap": lambda: tags(("Newts swim", [span(0, 5), span(3, 10)]), text="text"),
    "span leaves": lambda: tags(("Newts swim", [span(0, 99)]), text="text"),
    "no entity": lambda: tags(dev="O"),
    "label for tags": lambda: tags((["a"], "yes")),
    "label for spans": lambda: tags(("a", "yes"), text="text"),
    "tags for label": lambda: task('{"text": "a", "label": ["O"]}\n', ending="jsonl"),
    "magic": lambda: idx(magic=0x0D03),
    "counts": lambda: idx(labels=1),
    "cut": lambda: idx(cut=1),
    "sizes": lambda: pngs((6, 5), (4, 5)),
    "colour": lambda: pngs((6, 5), (6, 5), modes=["L", "RGB"]),
    "transparent": lambda: pngs((6, 5), modes=["RGBA"]),
    "no image": lambda: pngs(),
    "no folder": lambda: read_folder(Path(mkdtemp(dir="."))),
    "base 60": lambda: params("machine: {student: {runtime: 4:00:00}}"),
    "base 8": lambda: params("labels: [001, 002]"),
    "key twice": lambda: params("a: 1\na: 2"),
    "number": lambda: params("study: {name: 2e-5}"),
    "spaces": lambda: params("study: {name: my first study}"),
    "typo": lambda: params("defaults: {epohcs: 3}"),
    "yes": lambda: params(f"tasks: {{mine: {OWN}, labels: [yes, no]}}}}"),
    "bomb": lambda: params("a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(99)) + "}\n" + "".join(
        f"a{n + 1}: &a{n + 1} {{<<: [{', '.join([f'*a{n}'] * 9)}]}}\n" for n in range(5))),
    "model type": lambda: config(model_type=None),
    "code": lambda: config(auto_map={"AutoModel": "x.Y"}),
    "size": lambda: config(hidden_size=-384),
    "no names": lambda: column_order({}, ("no", "yes"), None, "models/ours"),
    "other classes": lambda: column_order({"id2label": {"0": "bad", "1": "good"}}, ("no", "yes"), None, "models/ours"),
    "class numbers": lambda: answers("text,label\nFine,1\n"),
    "per cent": lambda: answers("text,yes,no\nFine,90,0.1\n"),
    "sum": lambda: answers("text,yes,no\nFine,0.9,0.9\n"),
    "folded": lambda: answers("text,label\nfine,yes\n"),
    "other text": lambda: answers("idx,text,label\n1,Fine,yes\n"),
}  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What every case prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("inputs"))
        found = {}
        for name, act in CASES.items():
            try:
                found[name] = act() or []
            except UserError as error:
                found[name] = [str(error)]
        return found


def fits(line: str, printed: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, line.split("..."))), printed) is not None


def test_every_line_of_the_page_is_one_that_somebody_sees(seen: dict[str, list[str]]) -> None:
    printed = [line for lines in seen.values() for line in lines]
    assert len(LINES) > 50
    assert [line for line in LINES if not any(fits(line, other) for other in printed)] == []


def test_every_case_is_on_the_page(seen: dict[str, list[str]]) -> None:
    missing = {name: lines for name, lines in seen.items() if not any(fits(p, x) for p in LINES for x in lines)}
    assert missing == {}
