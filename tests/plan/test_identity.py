"""The memory of checksums saves time and decides nothing."""

import os
from pathlib import Path

import pytest

from internal_kd.checksums import sha256_file
from internal_kd.files import read_json
from internal_kd.plan.identity import ContentHashes


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "hashes.json"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a").write_text("one")
    return tmp_path / "a"


def hashed(file: Path, memory: Path) -> str:
    return ContentHashes(memory).of_file(file, "tasks.a")


def test_a_checksum_is_remembered_until_the_file_changes(
    file: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hashed(file, memory)
    monkeypatch.setattr("internal_kd.plan.identity.sha256_file", lambda path: pytest.fail("read again"))
    assert hashed(file, memory) == first
    monkeypatch.undo()
    file.write_text("three")
    assert hashed(file, memory) == sha256_file(file) != first


@pytest.mark.parametrize("how", ["in place", "replaced"])
def test_a_change_that_keeps_size_and_time_is_seen(file: Path, memory: Path, how: str) -> None:
    first, found = hashed(file, memory), file.stat()
    target = file if how == "in place" else file.with_name("b")
    target.write_text("two")
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
    target.replace(file)
    assert file.stat().st_mtime_ns == found.st_mtime_ns and file.stat().st_size == found.st_size
    assert hashed(file, memory) == sha256_file(file) != first


def test_a_changed_memory_counts_as_empty(file: Path, memory: Path) -> None:
    first = hashed(file, memory)
    memory.write_text(memory.read_text().replace(first, ("0" if first[0] != "0" else "1") + first[1:]))
    assert hashed(file, memory) == first


@pytest.mark.parametrize("text", ["", "[1]", "null", "5", '[["a", "b"]]', '{"files": 5}', '{"files": {"KEY": ["x"]}}'])
def test_a_memory_of_the_wrong_shape_counts_as_empty(file: Path, memory: Path, text: str) -> None:
    hashed(file, memory)
    (key,) = read_json(memory)["files"]
    memory.write_text(text.replace("KEY", key))
    assert hashed(file, memory) == sha256_file(file)
