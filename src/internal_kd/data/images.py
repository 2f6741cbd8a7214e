"""Images with a class each: IDX files, folders with a folder of PNGs for each class, or Parquet files of the hub.

Every image of a task has the same size, and all are grey (height, width, 1) or all in colour (height, width, 3). Hidden
files, as desktops leave them, do not count.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from internal_kd.data.examples import Examples, FetchedTask, own_task
from internal_kd.data.hub import files_of_splits
from internal_kd.data.labels import (
    class_indices,
    class_names,
    label_text,
    label_warnings,
    spell_alike,
    stored_names,
)
from internal_kd.data.tables import shown
from internal_kd.distillation.augmenting import shifted
from internal_kd.errors import UserError, nearest
from internal_kd.files import is_hidden
from internal_kd.params.data import ImagesEntry
from internal_kd.plan.artefacts import Data

# Of an IDX file of unsigned bytes: two zeros, the type, the number of axes.
IMAGES, LABELS = 0x0803, 0x0801
# Largest number of bytes that one image may have.
LARGEST = 1 << 24
SHIFTED = "dev_shifted"
# How a PNG begins, and the byte that has the bits for each value: PIL reads 16 as 8 without a word.
_PNG, _DEPTH = b"\x89PNG\r\n\x1a\n", 24


@dataclass(frozen=True)
class LabelledImages:
    """Images (N, height, width, channels) uint8, the names of their classes, where each is, and what was not read."""

    images: np.ndarray
    labels: list[str]
    places: list[str]
    ignored: tuple[str, ...] = ()


def fetch_images(data: Data) -> FetchedTask:
    """Read the task that the parameters describe.

    Raises:
        UserError: a file cannot be read, images differ in size, or labels do not fit; the line names the file.
    """
    entry = data.entry
    assert isinstance(entry, ImagesEntry)
    files, listed = files_of_splits(data), tuple(map(str, entry.labels or ()))
    read = _read(files, entry, listed)
    train, dev = read["train"], read["dev"]
    names = listed or class_names(data.name, files["train"], train.labels, images=True)
    warnings = label_warnings(names, Counter(train.labels), listed=bool(listed), images=True)
    warnings += [
        f"{files[split]}: {len(found.ignored)} files are not read (such as {found.ignored[0]}): only .png files are, "
        "each in the folder of its class"
        for split, found in read.items()
        if found.ignored
    ]
    _check_alike(entry.sources["dev"], dev.images.shape[1:], entry.sources["train"], train.images.shape[1:])
    indices = {
        split: class_indices(found.labels, found.places, names, files[split], data.name, listed=bool(listed))
        for split, found in read.items()
    }
    splits = {split: image_examples(found.images, indices[split]) for split, found in read.items()}
    if entry.shifted:  # the same for everybody
        if entry.shifted >= min(dev.images.shape[1:3]):
            size = _size(dev.images.shape[1:])
            raise UserError(
                f"tasks.{data.name}.shifted: {entry.shifted} move images of {size} out of sight; give fewer"
            )
        moved = shifted(dev.images, entry.shifted, np.random.Generator(np.random.PCG64(entry.shifted)))
        splits[SHIFTED] = image_examples(moved, indices["dev"])
    return own_task(data, names, splits, texts=0, warnings=warnings)


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


def _read(files: Mapping[str, Path], entry: ImagesEntry, listed: Sequence[str]) -> dict[str, LabelledImages]:
    found = {}
    for split in ("train", "dev"):
        path = files[split]
        if path.is_dir():
            found[split] = read_folder(path)
        elif f"{split} labels" in files:
            found[split] = read_idx(path, files[f"{split} labels"])
        else:
            found[split] = read_parquet(path, entry.image, entry.label, listed)
    return found


def _check_alike(name: str, shape: Sequence[int], first: str, other: Sequence[int]) -> None:
    """Refuse images of several sizes (height, width, channels), and grey ones among those in colour."""
    if shape[2] != other[2]:
        coloured, grey = (name, first) if shape[2] == 3 else (first, name)
        raise UserError(f"{coloured} is in colour, and {grey} is grey; convert all to grey, or all to colour")
    if shape != other:
        raise UserError(f"{name} has {_size(shape)}, and {first} {_size(other)}; give all one size")


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]}x{shape[1]} pixels"


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
    places = [f"image {number}" for number in range(len(pixels))]
    return LabelledImages(pixels[..., None], [str(number) for number in classes.tolist()], places)


def _idx(path: Path, magic: int, what: str) -> np.ndarray:
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); is it complete?") from None
    axes = magic & 0xFF
    header = 4 + 4 * axes
    found = int.from_bytes(content[:4], "big")
    if len(content) >= 4 and found != magic:
        raise UserError(f"{path} is not an IDX file of {what}: it begins with {found:#010x}, not with {magic:#010x}")
    if len(content) < header:
        raise UserError(f"{path} has {len(content)} bytes, and its header alone {header}; copy it again")
    shape = struct.unpack(f">{axes}I", content[4:header])
    if 0 in shape:
        raise UserError(f"{path} has no {what}: its header says {' x '.join(map(str, shape))}; give another file")
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise UserError(f"{path} has {len(content)} bytes, and its header asks for {expected}; copy it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


# Folders of PNGs


def read_folder(folder: Path) -> LabelledImages:
    """Read a folder that has a folder of PNGs for each class.

    Raises:
        UserError: there is no folder of a class or an empty one, a file is not a PNG of 8 bits without transparency,
            sizes differ, or some images are grey and some in colour.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UserError(f"{folder} has no folders; give a folder with a folder of PNGs for each class")
    paths: list[Path] = []
    labels: list[str] = []
    for of_class in classes:
        found = sorted(path for path in of_class.glob("[!.]*") if path.suffix.lower() == ".png" and path.is_file())
        if not found:
            raise UserError(f"{of_class} has no .png file; add images of this class, or remove the folder")
        paths += found
        labels += [of_class.name] * len(found)
    # Links that lead nowhere are among those left out.
    left = {path.relative_to(folder) for path in {*folder.rglob("*")}.difference(paths) if not path.is_dir()}
    images = _stacked((str(path), _content(path)) for path in paths)
    places = [str(path.relative_to(folder)) for path in paths]
    return LabelledImages(images, labels, places, tuple(str(path) for path in sorted(left) if not is_hidden(path)))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None


def _stacked(files: Iterable[tuple[str, bytes]]) -> np.ndarray:
    images: list[np.ndarray] = []
    first = ""
    for name, content in files:
        image = _decoded(name, content)
        if not images:
            first = name
        _check_alike(name, image.shape, first, images[0].shape if images else image.shape)
        images.append(image)
    return np.stack(images)


def _decoded(name: str, content: bytes) -> np.ndarray:
    """Return an image (height, width, 1 or 3), uint8; grey as the file says, or a palette of greys."""
    from PIL import Image, UnidentifiedImageError

    if content.startswith(_PNG) and content[_DEPTH : _DEPTH + 1] > b"\x08":
        raise UserError(f"{name} has {content[_DEPTH]} bits for each value; save it with 8")
    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as opened:
            clear = opened.has_transparency_data and opened.convert("RGBA").getchannel("A").getextrema() != (255, 255)
            grey = opened.mode in ("1", "L", "LA") or _grey_palette(opened.getpalette())
            pixels = np.asarray(opened.convert("L" if grey else "RGB"))
    except UnidentifiedImageError:
        raise UserError(f"{name} is not an image that can be read; save it as PNG") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} is not an image that can be read ({error}); save it as PNG") from None
    if clear:
        raise UserError(f"{name} has transparent pixels, whose colour nobody sees; lay it on a background")
    if pixels.size > LARGEST:
        raise UserError(f"{name} has {pixels.size:,} values, more than {LARGEST:,}; make it smaller")
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _grey_palette(palette: list[int] | None) -> bool:
    """Whether all colours of a palette, red, green and blue in turn, are greys; False without one."""
    return palette is not None and palette[0::3] == palette[1::3] == palette[2::3]


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

    places = [f"row {row}" for row in range(len(labels))]
    return LabelledImages(_stacked(contents()), spell_alike(labels, known), places)
