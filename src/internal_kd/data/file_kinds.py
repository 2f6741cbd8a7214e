"""What a file really is, by its first bytes: the usual surprises are named with the way out."""

from __future__ import annotations

from pathlib import Path

from internal_kd.errors import UserError

# First bytes, what they mean, what to do. Longer signatures first: UTF-32 begins like UTF-16.
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "compressed with gzip", "decompress it: gunzip -c {name} > new{ending}"),
    (b"BZh", "compressed with bzip2", "decompress it: bunzip2 -c {name} > new{ending}"),
    (b"\xfd7zXZ", "compressed with xz", "decompress it: unxz -c {name} > new{ending}"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "decompress it: unzstd -c {name} > new{ending}"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "decompress it: unlz4 -c {name} > new{ending}"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", "save the sheet as CSV (UTF-8)"),
    (b"PAR1", "a Parquet file", "rename it to .parquet"),
    (b"ARROW1", "an Arrow file", "convert it to Parquet"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"\xff\xfe\x00\x00", "UTF-32 text", "convert it: iconv -f utf-32 -t utf-8 {name} > new{ending}"),
    (b"\x00\x00\xfe\xff", "UTF-32 text", "convert it: iconv -f utf-32 -t utf-8 {name} > new{ending}"),
    (b"\xff\xfe", "UTF-16 text", "convert it: iconv -f utf-16 -t utf-8 {name} > new{ending}"),
    (b"\xfe\xff", "UTF-16 text", "convert it: iconv -f utf-16 -t utf-8 {name} > new{ending}"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch the file: git lfs pull"),
    (b"<!doctype html", "an HTML page", "download the file itself"),
    (b"<html", "an HTML page", "download the file itself"),
)
_COMPRESSED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zip": "ZIP"}
_CONTROLS = frozenset(range(9)) | frozenset(range(14, 27))
_LOOKED_AT = 4096


def surprise_in(start: bytes) -> tuple[str, str] | None:
    """Return what a file that begins with these bytes is and what to do about it, or None for plain text and the rest.

    What to do may contain ``{name}`` and ``{ending}`` of the file.

    >>> surprise_in(b"PAR1...")
    ('a Parquet file', 'rename it to .parquet')
    """
    for signature, kind, way_out in _SIGNATURES:
        if start[: len(signature)].lower() == signature.lower():
            return kind, way_out
    # Text of the Latin alphabet in UTF-16 or UTF-32 has a zero in every second, or three of every four bytes; the names
    # of the columns are more often Latin than the texts.
    for part in (start, start[:16]):
        if len(part) >= 4 and part.count(0) * 3 > len(part):
            return _without_mark(part)
    return None


def _without_mark(start: bytes) -> tuple[str, str] | None:
    width = 32 if start.count(0) * 5 > len(start) * 3 else 16
    step = width // 8
    for order, kept in (("le", 0), ("be", step - 1)):
        zeros = [byte for place, byte in enumerate(start[: len(start) // step * step]) if place % step != kept]
        if zeros.count(0) * 10 > len(zeros) * 9:
            name = f"utf-{width}{order}"
            return (
                f"UTF-{width} text without a byte order mark",
                f"convert it: iconv -f {name} -t utf-8 {{name}} > new{{ending}}",
            )
    return None


def check_file_kind(path: Path, *, expected: str) -> None:
    """Refuse a file whose first bytes show that it is not what is ``expected``: "text" or "parquet".

    Raises:
        UserError: it is compressed, in another encoding or another kind of file, or cannot be opened.
    """
    if path.suffix.lower() in _COMPRESSED:
        how = _COMPRESSED[path.suffix.lower()]
        raise UserError(f"{path} is compressed with {how}: decompress it and give the path of the result")
    try:
        with path.open("rb") as handle:
            start = handle.read(_LOOKED_AT)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if expected == "parquet" and start.startswith(b"PAR1"):
        return
    if found := surprise_in(start):
        way_out = found[1].format(name=path.name, ending=path.suffix)
        raise UserError(f"{path} is {found[0]}: {way_out}")
    if expected == "text" and _CONTROLS.intersection(start.split(b"\n")[0]):
        raise UserError(f"{path} is not text (its first line has control characters): is it what its name says?")
