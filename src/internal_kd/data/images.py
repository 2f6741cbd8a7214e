"""Images with a class each: IDX files, folders with a folder of PNGs for each class, or Parquet files of the hub.

Every image of a task has the same size, and all are grey (height, width, 1) or all in colour (height, width, 3).
"""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from internal_kd.data.examples import Examples, FetchedTask, own_task
from internal_kd.data.hub import files_of_splits
from internal_kd.data.labels import label_text, spell_alike, stored_names
from internal_kd.data.tables import shown
from internal_kd.distillation.augmenting import shifted
from internal_kd.errors import UserError, nearest
from internal_kd.params.data import ImagesEntry
from internal_kd.plan.artefacts import Data

# Of an IDX file of unsigned bytes: two zeros, the type, the number of axes.
IMAGES, LABELS = 0x0803, 0x0801
# Largest number of bytes that one image may have.
LARGEST = 1 << 24
SHIFTED = "dev_shifted"


@dataclass(frozen=True)
class LabelledImages:
    """Images (N, height, width, channels) uint8 and the names of their classes."""

    images: np.ndarray
    labels: list[str]


def fetch_images(data: Data) -> FetchedTask:
    """Read the task that the parameters describe.

    Raises:
        UserError: a file cannot be read, images differ in size, or labels do not fit; the line names the file.
    """
    entry = data.entry
    assert isinstance(entry, ImagesEntry)
    read = _read(files_of_splits(data), entry)
    names = tuple(map(str, entry.labels)) if entry.labels else _class_names(read["train"].labels)
    where = entry.sources
    for split, found in read.items():
        if unknown := sorted(set(found.labels) - set(names)):
            raise UserError(
                f"{where[split]}: class {unknown[0]!r}{nearest(unknown[0], list(names))} is not one of those "
                f"{'listed' if entry.labels else 'in train'} ({shown(names)}); list every class under "
                f"tasks.{data.name}.labels"
            )
    train, scored = (read[split].images.shape[1:] for split in ("train", "dev"))
    if train != scored:
        raise UserError(
            f"{where['dev']}: its images have {_size(scored)}, those of {where['train']} {_size(train)}; resize one"
        )
    if entry.shifted:  # the same for everybody
        moved = shifted(read["dev"].images, entry.shifted, np.random.Generator(np.random.PCG64(entry.shifted)))
        read[SHIFTED] = LabelledImages(moved, read["dev"].labels)
    index = {name: number for number, name in enumerate(names)}
    splits = {split: image_examples(one.images, [index[name] for name in one.labels]) for split, one in read.items()}
    return own_task(data, names, splits, texts=0)


def image_examples(images: np.ndarray, labels: Sequence[int]) -> Examples:
    """Return the rows of a split of images (N, height, width, channels) uint8 with their class indices."""
    size = images[0].size
    pixels = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(size), len(images), [None, pa.py_buffer(np.ascontiguousarray(images))]
    )
    shape = {"shape": " ".join(map(str, images.shape[1:]))}
    fields = [pa.field("idx", pa.int64()), pa.field("image", pa.binary(size), metadata=shape)]
    schema = pa.schema([*fields, pa.field("label", pa.int64())])
    arrays = [pa.array(np.arange(len(images))), pixels, pa.array(labels, pa.int64())]
    return Examples(pa.Table.from_arrays(arrays, schema=schema))


def images_of(table: pa.Table) -> np.ndarray:
    """Return the images of a split's rows, (N, height, width, channels) uint8."""
    shape = tuple(map(int, table.schema.field("image").metadata[b"shape"].split()))
    chunks = [np.frombuffer(b"".join(chunk.to_pylist()), np.uint8) for chunk in table["image"].chunks]
    return np.concatenate(chunks).reshape(-1, *shape)


def _read(files: Mapping[str, Path], entry: ImagesEntry) -> dict[str, LabelledImages]:
    found = {}
    for split in ("train", "dev"):
        path = files[split]
        if path.is_dir():
            found[split] = read_folder(path)
        elif f"{split} labels" in files:
            found[split] = read_idx(path, files[f"{split} labels"])
        else:
            found[split] = read_parquet(path, entry.image, entry.label, tuple(map(str, entry.labels or ())))
    return found


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]}x{shape[1]} pixels{' in colour' if shape[2] == 3 else ''}"


def _class_names(labels: Iterable[str]) -> tuple[str, ...]:
    found = sorted(set(labels))
    return tuple(sorted(found, key=int) if all(name.isdecimal() for name in found) else found)


# IDX


def read_idx(images: Path, labels: Path) -> LabelledImages:
    """Read a pair of IDX files of unsigned bytes, compressed with gzip or not.

    Raises:
        UserError: a file is missing, truncated or not what its name says, or the two have different counts.

    Source: the format's description beside MNIST, LeCun, Cortes, Burges.
    """
    pixels, classes = _idx(images, IMAGES, "images"), _idx(labels, LABELS, "labels")
    if len(pixels) != len(classes):
        raise UserError(f"{images} has {len(pixels)} images, and {labels} {len(classes)} labels; they do not match")
    return LabelledImages(pixels[..., None], [str(number) for number in classes.tolist()])


def _idx(path: Path, magic: int, what: str) -> np.ndarray:
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); is it complete?") from None
    axes = magic & 0xFF
    header = 4 + 4 * axes
    found = int.from_bytes(content[:4], "big")
    if found != magic or len(content) < header:
        raise UserError(f"{path} is not an IDX file of {what}: it begins with {found:#010x}, not with {magic:#010x}")
    shape = struct.unpack(f">{axes}I", content[4:header])
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise UserError(f"{path} has {len(content)} bytes, and its header asks for {expected}; copy it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


# Folders of PNGs


def read_folder(folder: Path) -> LabelledImages:
    """Read a folder that has a folder of PNGs for each class.

    Raises:
        UserError: there is no folder of a class or an empty one, a file is not a PNG of 8 bits, or sizes differ.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UserError(f"{folder} has no folders; give a folder with a folder of PNGs for each class")
    paths: list[Path] = []
    labels: list[str] = []
    for of_class in classes:
        found = sorted(path for path in of_class.iterdir() if path.suffix.lower() == ".png")
        if not found:
            raise UserError(f"{of_class} has no .png file; add images of this class, or remove the folder")
        paths += found
        labels += [of_class.name] * len(found)
    return LabelledImages(_stacked((str(path), path.read_bytes()) for path in paths), labels)


def _stacked(files: Iterable[tuple[str, bytes]]) -> np.ndarray:
    images: list[np.ndarray] = []
    first = ""
    for name, content in files:
        image = _decoded(name, content)
        if not images:
            first = name
        elif image.shape != images[0].shape:
            raise UserError(f"{name} has {_size(image.shape)}, and {first} {_size(images[0].shape)}; give all one size")
        images.append(image)
    return np.stack(images)


def _decoded(name: str, content: bytes) -> np.ndarray:
    """Return an image (height, width, 1 or 3), uint8."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as opened:
            if opened.mode.startswith(("I", "F")):
                raise UserError(f"{name} has more than 8 bits a pixel; save it with 8")
            pixels = np.asarray(opened.convert("L" if opened.mode in ("1", "L") else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} is not an image that can be read ({error}); save it as PNG") from None
    if pixels.size > LARGEST:
        raise UserError(f"{name} has {pixels.size:,} values, more than {LARGEST:,}; make it smaller")
    return pixels[..., None] if pixels.ndim == 2 else pixels


# Parquet


def read_parquet(path: Path, image: str, label: str, known: Sequence[str] = ()) -> LabelledImages:
    """Read a Parquet file as the hub has them: encoded images, as bytes or ``{bytes, path}``, and class numbers.

    Raises:
        UserError: a column is missing, an image or a label is, or sizes differ.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} cannot be read ({' '.join(str(error).split())[:200]}); "
            "is it Parquet? IDX files are called train-images-idx3-ubyte, next to train-labels-idx1-ubyte"
        ) from None
    for column in (image, label):
        if column not in table.column_names:
            near = nearest(column, table.column_names)
            raise UserError(f"{path}: no column {column!r}{near}; it has {shown(table.column_names)}")
    if not table.num_rows:
        raise UserError(f"{path} has no rows; give a file with images")
    stored, values = stored_names(path, label), table[label].to_pylist()
    labels = [label_text(value, path, f"row {row}", label, known, stored) for row, value in enumerate(values)]

    def contents() -> Iterator[tuple[str, bytes]]:
        for row, value in enumerate(table[image].to_pylist()):
            content = value.get("bytes") if isinstance(value, dict) else value
            if not isinstance(content, bytes):
                raise UserError(f"{path} row {row}: no image; the column has to hold encoded images")
            yield f"{path} row {row}", content

    return LabelledImages(_stacked(contents()), spell_alike(labels))
