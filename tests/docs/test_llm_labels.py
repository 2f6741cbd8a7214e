"""docs/how-to/llm-labels.md is one story: its files, programs and commands, in their order, end in a tagger."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.pages import ROOT, blocks_of
from internal_kd.command_line import main
from internal_kd.params import load_params, merge
from internal_kd.plan.study import plan_study
from tiny_study import PIPELINE, VALUES, make_encoder
from trained_study import make

PAGE = ROOT / "docs/how-to/llm-labels.md"
TINY = {key: VALUES[key] for key in ("encoder", "defaults")}


class Server(BaseHTTPRequestHandler):
    """A language model that knows what comes first in a sentence."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        first = asked.rpartition("Text:\n")[2].split()[0]
        said = json.dumps({"entities": [{"text": first, "type": "SPECIES"}]})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"message": {"content": said}}]}).encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A project with a folder of texts, a few tagged sentences and a server; its address."""
    monkeypatch.chdir(tmp_path)
    for name in (*PIPELINE, "config"):
        Path(name).symlink_to(ROOT / name)
    make_encoder(Path("encoder"))
    Path("datasets").mkdir()
    Path("texts").mkdir()
    Path("texts/a.txt").write_text("the cat sleeps .\n\nthe dog sleeps .\n")
    Path("texts/b.txt").write_text("a cat sleeps .\n")
    tagged = {"tokens": ["a", "dog", "sleeps", "."], "tags": ["B-SPECIES", "I-SPECIES", "O", "O"]}
    for split in ("train", "dev"):
        Path(f"datasets/species-{split}.jsonl").write_text(f"{json.dumps(tagged)}\n" * 4)
    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_page_goes_from_texts_to_an_exported_tagger(story: str, capsys: pytest.CaptureFixture[str]) -> None:
    files = iter([("species.yaml", TINY), ("species-llm.yaml", {"study": {"seeds": [1]}})])
    said: dict[str, Any] = {}
    for block in blocks_of(PAGE, "yaml", "python", "bash"):
        if block.language == "yaml":
            name, tiny = next(files)
            # What makes it small, such as one seed for three.
            Path(name).write_text(yaml.safe_dump(merge(yaml.safe_load(block.text), tiny)))
        elif block.language == "python":
            exec(block.text.replace("http://127.0.0.1:8000", story), said)
        for line in block.text.splitlines() if block.language == "bash" else ():
            _, command, *given = shlex.split(line)
            if command == "run":
                for run in plan_study(load_params("params.yaml", given[given.index("--overlay") + 1 :])).runs:
                    make(run)
            else:
                assert main([command, *given]) == 0
    assert len(Path("datasets/species-texts.jsonl").read_text().splitlines()) == 3
    printed = capsys.readouterr().out
    assert "SPECIES: 3 entities (100.0 %)" in printed and "3 of 7 examples" in printed
    assert {label["entity_group"] for label in said["tagger"]("the dog sleeps .")} <= {"SPECIES", "HABITAT"}
    assert next(files, None) is None
