"""The memory of checksums saves time and decides nothing."""

from pathlib import Path

import pytest

from internal_kd.files import read_json, sha256_file
from internal_kd.identity import ContentHashes


def test_a_checksum_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, memory = tmp_path / "a", tmp_path / "hashes.json"
    file.write_text("one")
    first = ContentHashes(memory).of_file(file, "tasks.a")
    monkeypatch.setattr("internal_kd.identity.sha256_file", lambda path: pytest.fail("read again"))
    assert ContentHashes(memory).of_file(file, "tasks.a") == first
    monkeypatch.undo()
    file.write_text("three")
    assert ContentHashes(memory).of_file(file, "tasks.a") == sha256_file(file) != first


@pytest.mark.parametrize("text", ["", "[1]", "null", "5", '[["a", "b"]]', '{"KEY": 5}', '{"KEY": ["x"]}'])
def test_a_memory_of_the_wrong_shape_counts_as_empty(tmp_path: Path, text: str) -> None:
    file, memory = tmp_path / "a", tmp_path / "hashes.json"
    file.write_text("one")
    ContentHashes(memory).of_file(file, "tasks.a")
    (key,) = read_json(memory)
    memory.write_text(text.replace("KEY", key))
    assert ContentHashes(memory).of_file(file, "tasks.a") == sha256_file(file)
