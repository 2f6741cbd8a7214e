"""Images from IDX files, folders of PNGs and Parquet: what is read, and one line for what is wrong."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_plans import planned_data
from internal_kd.data import hub
from internal_kd.data.examples import read_task
from internal_kd.data.images import images_of, read_folder, read_idx, read_parquet
from internal_kd.data.inputs import EncodedTask
from internal_kd.errors import UserError
from internal_kd.plan.artefacts import Data, Inputs
from internal_kd.plan.recipes import RECIPES
from internal_kd.steps.encode import encode_task
from internal_kd.steps.fetch import fetch_task

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 5)).astype(np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 3


def idx(array: np.ndarray, magic: int) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


def write_idx(folder: Path, name: str = "train", *, images: Any = IMAGES, labels: Any = LABELS, **other: Any) -> Path:
    """A pair of IDX files, compressed if the name says so."""
    pack = gzip.compress if other.get("gz") else bytes
    ending = ".gz" if other.get("gz") else ""
    path = folder / f"{name}-images-idx3-ubyte{ending}"
    path.write_bytes(pack(idx(images, other.get("magic", 0x0803))))
    (folder / f"{name}-labels-idx1-ubyte{ending}").write_bytes(pack(idx(labels, 0x0801)))
    return path


def png(array: np.ndarray, mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(folder: Path) -> Path:
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        of_class = folder / f"class{label}"
        of_class.mkdir(parents=True, exist_ok=True)
        (of_class / f"{number:03}.png").write_bytes(png(image))
    return folder


def labels_of(idx1: Path) -> Path:
    return idx1.with_name(idx1.name.replace("images", "labels").replace("idx3", "idx1"))


@pytest.mark.parametrize("gz", [False, True])
def test_idx_files_are_read_byte_for_byte(tmp_path: Path, gz: bool) -> None:
    path = write_idx(tmp_path, gz=gz)
    found = read_idx(path, labels_of(path))
    assert (found.images[..., 0] == IMAGES).all() and found.labels == [str(label) for label in LABELS]


def test_a_folder_of_pngs_by_class_is_read_pixel_for_pixel(tmp_path: Path) -> None:
    found = read_folder(write_folder(tmp_path))
    order = np.argsort(LABELS, kind="stable")
    assert (found.images[..., 0] == IMAGES[order]).all()
    assert found.labels == [f"class{label}" for label in LABELS[order]]


@pytest.mark.parametrize("as_struct", [True, False])
def test_parquet_of_the_hub_is_read(tmp_path: Path, as_struct: bool) -> None:
    encoded = [{"bytes": png(image), "path": None} if as_struct else png(image) for image in IMAGES]
    pq.write_table(pa.table({"image": encoded, "label": pa.array(LABELS, pa.int64())}), tmp_path / "a.parquet")
    found = read_parquet(tmp_path / "a.parquet", "image", "label")
    assert (found.images[..., 0] == IMAGES).all() and found.labels[:4] == ["0", "1", "2", "0"]


def test_idx_files_of_the_hub_come_with_their_labels(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = write_idx(project)
    entry = {"source": "images", "train": train.name, "test": train.name, "repository": "a/b", "revision": "0" * 40}
    monkeypatch.setattr(hub, "download", lambda requested: {name: project / name for name in requested.patterns})
    data = planned_data(entry)
    fetch_task(data)
    assert read_task(data).info.rows == {"train": 12, "dev": 12}


def test_colour_has_three_channels(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(png(IMAGES[0], "RGB"))
    assert read_folder(tmp_path).images.shape == (1, 6, 5, 3)


def test_a_task_of_images_becomes_pixels_and_a_test_set_that_is_called_so(project: Path) -> None:
    train, test = write_idx(project), write_idx(project, "t10k", images=IMAGES[:6], labels=LABELS[:6])
    entry = {"source": "images", "train": str(train), "test": str(test), "shifted": 1, "metrics": ["macro_f1"]}
    data = planned_data(entry)
    fetch_task(data)
    task = read_task(data)
    assert task.info.labels == ("0", "1", "2") and task.info.rows == {"train": 12, "dev": 6, "dev_shifted": 6}
    assert task.info.scored_on == "test set" and task.info.metrics == ("macro_f1",)
    assert (images_of(task.table("dev"))[..., 0] == IMAGES[:6]).all()
    inputs = Inputs(RECIPES["encode_task"], data, None, form="pixels")
    encode_task(inputs)
    split = EncodedTask.of(inputs).split("train")
    batch = split.batch([3, 0])
    assert (batch["pixels"].numpy()[..., 0] == IMAGES[[3, 0]]).all() and batch["labels"].tolist() == [0, 0]


def test_the_moved_copy_is_the_same_for_everybody_and_moves_every_way(project: Path) -> None:
    image = np.zeros((1, 9, 9), np.uint8)
    image[0, 4, 4] = 255
    many = np.repeat(image, 200, axis=0)
    path = write_idx(project, images=many, labels=np.arange(200, dtype=np.uint8) % 2)
    data = planned_data({"source": "images", "train": str(path), "dev": str(path), "shifted": 2})
    fetch_task(data)
    moved = images_of(read_task(data).table("dev_shifted"))[..., 0]
    found = {tuple(np.argwhere(each)[0] - 4) for each in moved}
    assert found == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_a_move_that_leaves_nothing_of_an_image_is_refused(project: Path) -> None:
    path = write_idx(project)
    data = planned_data({"source": "images", "train": str(path), "dev": str(path), "shifted": 5})
    assert "tasks.mine.shifted" in refused(fetch_task, data)


def test_content_decides_the_fingerprint_and_the_place_does_not(project: Path) -> None:
    def planned(where: Path) -> str:
        return planned_data({"source": "images", "train": str(where), "dev": str(where)}).fingerprint

    first, second = write_folder(project / "first"), write_folder(project / "second")
    assert planned(first) == planned(second)
    (second / "class0/000.png").write_bytes(png(IMAGES[1]))
    assert planned(first) != planned(second)


# What is wrong


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_idx_file_with_another_magic_number_is_refused(tmp_path: Path) -> None:
    path = write_idx(tmp_path, magic=0x0D03)
    line = refused(read_idx, path, labels_of(path))
    assert str(path) in line and "0x00000d03" in line and "0x00000803" in line
    assert "labels" in refused(read_idx, write_idx(tmp_path), path)


def test_counts_that_differ_are_refused(tmp_path: Path) -> None:
    path = write_idx(tmp_path, labels=LABELS[:-1])
    line = refused(read_idx, path, labels_of(path))
    assert "12 images" in line and "11 labels" in line


def test_a_truncated_idx_file_is_refused(tmp_path: Path) -> None:
    path = write_idx(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert "copy it again" in refused(read_idx, path, labels_of(path))


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "class1/999.png").write_bytes(png(IMAGES[0][:4]))
    line = refused(read_folder, folder)
    assert "999.png" in line and "4x5 pixels" in line and "6x5 pixels" in line


def test_a_class_without_images_and_a_folder_without_classes_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "empty").mkdir()
    assert "empty" in refused(read_folder, folder)
    assert "class0" in refused(read_folder, folder / "class0")


def test_what_is_not_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(b"no image")
    line = refused(read_folder, tmp_path)
    assert "1.png" in line and "BytesIO" not in line


def test_a_class_that_train_lacks_is_refused(project: Path) -> None:
    train = write_idx(project)
    test = write_idx(project, "t10k", labels=LABELS + 1)
    data = planned_data({"source": "images", "train": str(train), "test": str(test)})
    line = refused(fetch_task, data)
    assert "'3'" in line and "labels" in line


def test_damaged_and_empty_idx_files_are_refused(tmp_path: Path) -> None:
    path = write_idx(tmp_path, gz=True, images=IMAGES // 128)
    whole = path.read_bytes()
    for at in (20, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        assert str(path) in refused(read_idx, path, labels_of(path))
    path = write_idx(tmp_path)
    for kept in (9, 3, 0):
        path.write_bytes(path.read_bytes()[:kept])
        assert f"{kept} bytes" in refused(read_idx, path, labels_of(path))
    for shape in ((0, 6, 5), (12, 0, 0)):
        path = write_idx(tmp_path, images=np.zeros(shape, np.uint8))
        assert "has no images" in refused(read_idx, path, labels_of(path))
    path = write_idx(tmp_path, labels=LABELS[:0])
    assert "has no labels" in refused(read_idx, path, labels_of(path))


def one_image(folder: Path, content: bytes) -> np.ndarray:
    """What is read of a folder with a single image."""
    (folder / "a").mkdir(exist_ok=True)
    (folder / "a/1.png").write_bytes(content)
    return read_folder(folder).images[0]


COLOURED = np.stack([IMAGES[0], IMAGES[1], IMAGES[2]], axis=-1)


def with_alpha(image: np.ndarray, alpha: int) -> np.ndarray:
    channels = image if image.ndim == 3 else image[..., None]
    return np.concatenate([channels, np.full_like(channels[..., :1], alpha)], axis=-1)


@pytest.mark.parametrize("image", [IMAGES[0], COLOURED], ids=["grey", "colour"])
def test_an_image_with_transparent_pixels_is_refused_and_an_opaque_one_is_read(
    tmp_path: Path, image: np.ndarray
) -> None:
    assert (np.squeeze(one_image(tmp_path, png(with_alpha(image, 255)))) == image).all()
    assert "transparent" in refused(one_image, tmp_path, png(with_alpha(image, 254)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P"])
def test_however_a_grey_image_is_saved_it_has_one_channel(tmp_path: Path, mode: str) -> None:
    assert (
        one_image(tmp_path, png(IMAGES[0] // 128 * 255, mode)).tolist() == (IMAGES[0] // 128 * 255)[..., None].tolist()
    )
    assert one_image(tmp_path, png(COLOURED, "P")).shape == (6, 5, 3)


@pytest.mark.parametrize("colour", [0, 2, 4, 6], ids=["grey", "rgb", "grey and alpha", "rgba"])
def test_more_than_8_bits_for_a_value_are_refused(tmp_path: Path, colour: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]

    def chunk(kind: bytes, content: bytes) -> bytes:
        summed = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + summed

    header = struct.pack(">2I5B", 2, 2, 16, colour, 0, 0, 0)
    rows = (b"\0" + b"\xff\xff" * 2 * channels) * 2
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert Image.open(io.BytesIO(content)).size == (2, 2)
    assert "16 bits" in refused(one_image, tmp_path, content)


def test_grey_images_among_those_in_colour_are_refused(project: Path) -> None:
    folder = write_folder(project / "train")
    (folder / "class1/999.png").write_bytes(png(IMAGES[0], "RGB"))
    line = refused(read_folder, folder)
    assert line.startswith(f"{folder}/class1/999.png is in colour") and "000.png is grey" in line
    for path in folder.rglob("*.png"):
        path.write_bytes(png(IMAGES[0], "RGB"))
    data = planned_data({"source": "images", "train": str(folder), "dev": str(write_folder(project / "dev"))})
    assert f"{folder} is in colour" in refused(fetch_task, data)


def test_hidden_files_do_not_count_and_other_files_are_named(project: Path) -> None:
    folder = write_folder(project / "train")
    entry = {"source": "images", "train": str(folder), "dev": str(folder)}
    before = planned_data(entry).fingerprint
    (folder / "class0/.hidden.png").write_bytes(png(IMAGES[0]))
    (folder / "class0/._000.png").write_bytes(b"of a desktop")
    (folder / "class0/.checkpoints").mkdir()
    (folder / "class0/.checkpoints/000.png").write_bytes(png(IMAGES[0]))
    assert planned_data(entry).fingerprint == before and len(read_folder(folder).images) == len(IMAGES)
    assert not read_folder(folder).ignored
    (folder / "class0/more").mkdir()
    (folder / "class0/folder.png").mkdir()
    (folder / "class0/more/1.png").write_bytes(png(IMAGES[0]))
    (folder / "class1/2.jpg").write_bytes(b"a photograph")
    (folder / "class1/nowhere.png").symlink_to("missing.png")
    assert read_folder(folder).ignored == ("class0/more/1.png", "class1/2.jpg", "class1/nowhere.png")
    data = planned_data(entry)
    fetch_task(data)
    assert any("3 files are not read" in line and "class0/more/1.png" in line for line in read_task(data).warnings)


def labelled(project: Path, values: list[Any], **given: Any) -> Data:
    """A planned task of one Parquet file, an image for each value of its column of labels."""
    table = pa.table({"image": [png(IMAGES[n % 12]) for n in range(len(values))], "label": values})
    pq.write_table(table, project / "a.parquet")
    return planned_data({"source": "images", "train": "a.parquet", "dev": "a.parquet", **given})


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (["cat", "Cat", "dog"], "capital letters"),
        ([f"id{n}" for n in range(36)], "ids"),
        ([0.5, 1.5, 2.0], "numbers to predict"),
    ],
)
def test_labels_that_name_no_classes_are_refused_as_those_of_texts_are(
    project: Path, labels: list[Any], named: str
) -> None:
    line = refused(fetch_task, labelled(project, labels))
    assert named in line and "kind" not in line and "tasks.mine.labels" in line


def test_classes_that_are_listed_have_the_last_word(project: Path) -> None:
    data = labelled(project, [1.0, 2.0, 1.0], labels=["1", "2", "3"])
    fetch_task(data)
    assert read_task(data).info.labels == ("1", "2", "3")
    assert any("no training example" in line and "'3'" in line for line in read_task(data).warnings)
    data = labelled(project, ["1.0", "2.0", "1.0"], labels=["1.0", "2.0"])
    fetch_task(data)
    assert read_task(data).info.labels == ("1.0", "2.0")


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"train": "a"}, "dev"),
        ({"train": "a", "dev": "b", "test": "c"}, "dev"),
        ({"train": "a", "dev": "b", "repository": "x/y"}, "revision"),
        ({"train": "a", "dev": "b", "metrics": ["pearson"]}, "pearson"),
        ({"train": "a", "dev": "b", "unlabelled": "c"}, "unlabelled"),
    ],
)
def test_an_entry_that_says_too_little_or_too_much_is_refused(entry: dict[str, Any], named: str) -> None:
    assert named in refused(planned_data, {"source": "images", **entry})
