"""Files are complete or absent, whatever goes wrong while they are written, and compared before they are used."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from disks import mount, remount, unmount
from internal_kd.checksums import Damaged, publish, signature, verified
from internal_kd.errors import UserError
from internal_kd.files import (
    publish_folder,
    read_json,
    read_mapping,
    read_text,
    remove,
    replace_folder,
    replacing,
    require_space,
    staging_folder,
    write_json,
    write_text,
)


def nothing_left(folder: Path) -> bool:
    return list(folder.iterdir()) == []


def test_a_file_appears_whole(tmp_path):
    write_json(tmp_path / "deep" / "a.json", {"x": [1, 2]})
    assert read_json(tmp_path / "deep" / "a.json") == {"x": [1, 2]}


def test_an_error_while_writing_leaves_the_old_file_and_no_scrap(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError("interrupted")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written"), (errno.EIO, "could not be written")],
)
def test_trouble_with_the_disk_is_one_line_and_leaves_nothing(tmp_path, number, said):
    with pytest.raises(UserError, match=said) as refused, staging_folder(tmp_path / "run") as staged:
        (staged / "part").write_text("half")
        raise OSError(number, os.strerror(number))
    assert "run" in str(refused.value) and nothing_left(tmp_path)


def test_a_file_inside_a_folder_not_yet_in_its_place_is_named_by_that_place(tmp_path):
    with (
        pytest.raises(UserError, match=f"the disk is full: {tmp_path}/.run/run.json could not be written"),
        staging_folder(tmp_path / ".run") as staged,
        replacing(staged / "run.json"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert nothing_left(tmp_path)


def test_a_disk_that_is_full_while_weights_are_written_is_one_line(tmp_path):
    # /dev/full is a disk without any space.
    with pytest.raises(UserError, match="the disk is full"), staging_folder(tmp_path / "run") as staged:
        (staged / "model.safetensors").symlink_to("/dev/full")
        with (staged / "model.safetensors").open("wb") as handle:
            handle.write(b"x" * 10_000)
    assert nothing_left(tmp_path)


def test_what_safetensors_says_about_a_full_disk_is_understood(tmp_path):
    error = RuntimeError(f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")
    with pytest.raises(UserError, match="the disk is full"), staging_folder(tmp_path / "run"):
        raise error


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(KeyError), staging_folder(tmp_path / "run") as staged:
        save_file({"a": torch.zeros(2)}, staged / "a.safetensors")
        raise KeyError("a bug")
    assert nothing_left(tmp_path)


def test_the_marker_comes_last_and_never_beside_old_files(tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    (target / "run.json").write_text("old")
    with staging_folder(target) as staged:
        (staged / "model").mkdir()
        (staged / "model" / "weights").write_text("new")
        (staged / "run.json").write_text("new")
        publish_folder(staged, target, last="run.json")
    assert (target / "model" / "weights").read_text() == (target / "run.json").read_text() == "new"


def test_more_than_the_disk_holds_is_refused_before_writing(tmp_path):
    with pytest.raises(UserError, match=r"the maps take 1000000000\.00 GB, but the disk of"):
        require_space(tmp_path, 10**18, "the maps")


def test_json_cut_short_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"x": ')
    with pytest.raises(UserError, match=r"a\.json is truncated or not JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["[1]", "5", "null", '"x"'])
def test_json_that_is_no_object_is_named_where_one_is_wanted(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.json is not a JSON object: copy it again"):
        read_mapping(tmp_path / "a.json", "copy it again")


def test_json_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"does not exist"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").mkdir()
    with pytest.raises(UserError, match=r"a\.json cannot be read \(Is a directory\)"):
        read_json(tmp_path / "a.json")


def test_text_that_is_not_utf_8_is_named_with_the_way_out(tmp_path):
    (tmp_path / "a.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.txt is not UTF-8 .*at byte 3.*iconv"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(UserError, match="delete it"):
        read_json(tmp_path / "a.txt")
    for name, says in ((".", "cannot be read"), ("none.txt", "does not exist")):
        with pytest.raises(UserError, match=says):
            read_text(tmp_path / name)


def test_a_file_is_removed_or_the_line_says_why_not(tmp_path):
    (tmp_path / "a").write_text("x")
    remove(tmp_path / "a")
    remove(tmp_path / "a")
    assert nothing_left(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=f"{tmp_path}/folder could not be written"):
        remove(tmp_path / "folder")


def test_a_folder_bears_its_name_only_when_the_disk_holds_all_of_it(tmp_path, monkeypatch):
    target, happened = tmp_path / "step-2", []
    for folder in (target, tmp_path / ".step-2.tmp"):
        folder.mkdir()
        (folder / "weights").write_text(folder.name)
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(handle):
        happened.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def noted_rename(path, to):
        happened.append(f"renamed to {to.name}")
        return rename(path, to)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    replace_folder(tmp_path / ".step-2.tmp", target)
    assert happened == ["weights", ".step-2.tmp", "renamed to step-2", tmp_path.name]
    assert (target / "weights").read_text() == ".step-2.tmp"


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_network_disk_that_cannot_sync_folders_is_no_error(tmp_path, monkeypatch, number, passes):
    (tmp_path / "staged").mkdir()

    def refuse(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    if passes:
        replace_folder(tmp_path / "staged", tmp_path / "run")
        assert (tmp_path / "run").is_dir()
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            replace_folder(tmp_path / "staged", tmp_path / "run")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file and an empty folder in it, on a disk that takes no more."""
    disk = tmp_path / "disk"
    mount(disk)
    (disk / "old").write_text("old")
    (disk / "folder").mkdir()
    remount(disk, "ro")
    yield disk
    unmount(disk)


def test_a_read_only_disk_is_one_line_where_the_folder_is_there_already(read_only):
    for act in (
        lambda: write_text(read_only / "folder/new", "x"),
        lambda: write_text(read_only / "old", "x"),
        lambda: remove(read_only / "old"),
        lambda: require_space(read_only / "folder/deeper", 1, "the maps"),
    ):
        with pytest.raises(UserError, match=r"cannot be written \(Read-only file system\)"):
            act()
    remove(read_only / "missing")
    assert (read_only / "old").read_text() == "old"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder with a record of its files."""
    with staging_folder(tmp_path / "thing") as staged:
        (staged / "part").mkdir()
        (staged / "part/weights").write_bytes(bytes(1000))
        (staged / "notes").write_text("x")
        publish(staged, tmp_path / "thing", {"fingerprint": "f", "score": 0.5})
    return tmp_path / "thing"


def test_what_was_published_is_verified(published):
    verified(published, read_json(published / "manifest.json"))
    assert set(read_json(published / "manifest.json")["files"]) == {"part/weights", "notes"}


def test_a_flipped_bit_of_the_same_size_and_time_is_found(published):
    path, record = published / "part/weights", read_json(published / "manifest.json")
    verified(published, record)  # seen by this process already
    found = path.stat()
    path.write_bytes(bytes(500) + b"\x01" + bytes(499))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(Damaged, match="part/weights") as refused:
        verified(published, record)
    assert refused.value.folder == published and "run again" in str(refused.value)
    assert not (published / "manifest.json").exists()  # no longer complete
    verified(published, record, ["notes"])


@pytest.mark.parametrize("how", ["missing", "truncated", "folder"])
def test_a_file_that_is_not_there_in_full_is_found(published, how):
    path = published / "notes"
    path.unlink()
    if how == "truncated":
        path.write_text("")
    if how == "folder":
        path.mkdir()
    with pytest.raises(Damaged, match="notes"):
        verified(published, read_json(published / "manifest.json"))


def test_a_changed_record_is_found(published):
    record = read_json(published / "manifest.json")
    with pytest.raises(Damaged, match="record"):
        verified(published, {**record, "score": 0.6})
    with pytest.raises(Damaged, match="record"):
        verified(published, {"files": [1]})


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_published_files_are_as_readable_as_the_umask_allows(tmp_path, umask):
    before = os.umask(umask)
    try:
        with staging_folder(tmp_path / "thing") as staged:
            save_file({"w": torch.zeros(1)}, staged / "model.safetensors")  # written for its owner alone
            publish(staged, tmp_path / "thing", {})
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "thing").iterdir()}
    assert modes == {0o666 & ~umask}


def test_a_file_of_the_same_size_and_time_has_another_signature(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_text("1")
    other.write_text("2")
    found = path.stat()
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    before = signature(path)
    assert before == signature(path)
    other.replace(path)
    assert signature(path) != before
