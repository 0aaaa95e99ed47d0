"""Netpbm's formats: PBM, PGM, PPM (P1 to P6), PAM (P7), and PFM (Pf, PF) for float."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.limits import check_size
from amsnet_cli.photos.photo import COMMENT, Photo, Pixels

_COMMENT = re.compile(rb"#([^\n]*)\n")
_NUMBER = rb"(?:\s|#[^\n]*\n)+(\d{1,10})"
_HEADERS = {
    **dict.fromkeys((b"P1", b"P4"), re.compile(rb"P[14]" + _NUMBER * 2 + rb"\s")),
    **dict.fromkeys(
        (b"P2", b"P3", b"P5", b"P6"), re.compile(rb"P[2356]" + _NUMBER * 3 + rb"(?:#[^\n]*\n|\s)")
    ),
    b"P7": re.compile(rb"P7\n((?:[^\n]*\n)*?)ENDHDR\n"),
    **dict.fromkeys(
        (b"Pf", b"PF"), re.compile(rb"P[fF]" + _NUMBER * 2 + rb"(?:\s|#[^\n]*\n)+(-?[\d.eE+-]+)\s")
    ),
}
_CHANNELS = {b"P1": 1, b"P2": 1, b"P3": 3, b"P4": 1, b"P5": 1, b"P6": 3, b"Pf": 1, b"PF": 3}
_HEADER_LIMIT = 1 << 16


def read(path: Path, content: bytes) -> Photo:
    """Decode a file; fewer than 8 or 16 bits are scaled to the full range of those.

    Args:
        path: for messages.
        content: the file.

    Raises:
        PhotoError: no such file, cut short, or of an impossible size.
    """
    kind = content[:2]
    match = _HEADERS[kind].match(content[:_HEADER_LIMIT])
    if match is None:
        raise PhotoError(f"{path}: not a picture, or damaged (no header)", "copy it again")
    if kind == b"P7":
        width, height, channels, largest = _pam_header(path, match[1])
    else:
        width, height, channels = int(match[1]), int(match[2]), _CHANNELS[kind]
        largest = 1 if kind in (b"P1", b"P4") else 0 if kind in (b"Pf", b"PF") else int(match[3])
    if min(width, height) < 1 or channels not in (1, 2, 3, 4) or largest > 65535:
        raise PhotoError(f"{path}: {width}x{height} pixels of {channels} channels", "copy it again")
    check_size(path, content, (width, height), 4 * channels)
    body, count = content[match.end() :], width * height * channels
    if kind in (b"Pf", b"PF"):
        order = "<" if float(match[3]) < 0 else ">"
        values = _samples(path, body, count, np.dtype(f"{order}f4"))
        pixels = values.reshape(height, width, channels)[::-1].astype(np.float32)
        scale = abs(float(match[3]))
        notes = [f"the scale {scale:g} of its values is left out"] * (scale != 1)
        return Photo(pixels=pixels, texts=_comments(match[0]), notes=tuple(notes))
    if kind == b"P4":
        rows = _samples(path, body, height * -(-width // 8), np.dtype(np.uint8))
        values = 1 - np.unpackbits(rows.reshape(height, -1), axis=1)[:, :width].ravel()
    elif kind in (b"P1", b"P2", b"P3"):
        values = _plain(path, body, count, bits=kind == b"P1")
    else:
        values = _samples(path, body, count, np.dtype(">u2" if largest > 255 else np.uint8))
    if largest < 1 or values.max() > largest:
        raise PhotoError(f"{path}: damaged (values above {largest})", "copy it again")
    samples = _full_range(values, largest).reshape(height, width, channels)
    colours = 3 if channels >= 3 else 1
    return Photo(
        pixels=np.ascontiguousarray(samples[..., :colours]),
        alpha=np.ascontiguousarray(samples[..., -1]) if channels > colours else None,
        texts=_comments(match[0]),
        notes=("only the first of several pictures is kept",)
        * _goes_on(kind, body, count, largest),
    )


def write(photo: Photo) -> bytes:
    """Encode a photo as PGM or PPM, as PAM with transparency, as PFM in float; pixels are exact.

    Comments go into the header, but of PFM, which has none.
    """
    samples = photo.samples
    height, width, channels = samples.shape
    if samples.dtype == np.float32:
        if photo.alpha is not None:
            raise ValueError("PFM has no transparency")
        kind = b"PF" if channels == 3 else b"Pf"
        return kind + f"\n{width} {height}\n-1.0\n".encode() + samples[::-1].astype("<f4").tobytes()
    lines = [
        line for keyword, text in photo.texts if keyword == COMMENT for line in text.split("\n")
    ]
    comments = "".join(f"# {line}\n" for line in lines).encode()[: _HEADER_LIMIT // 2]
    largest = np.iinfo(samples.dtype).max
    body = samples.astype(samples.dtype.newbyteorder(">")).tobytes()
    if photo.alpha is None:
        kind = b"P6" if channels == 3 else b"P5"
        return kind + b"\n" + comments + f"{width} {height}\n{largest}\n".encode() + body
    tuples = "RGB_ALPHA" if channels == 4 else "GRAYSCALE_ALPHA"
    header = f"WIDTH {width}\nHEIGHT {height}\nDEPTH {channels}\nMAXVAL {largest}\n"
    return b"P7\n" + comments + f"{header}TUPLTYPE {tuples}\nENDHDR\n".encode() + body


def losses(photo: Photo) -> list[str]:
    """List the comments, of which PFM has none."""
    is_lost = photo.depth == 32 and any(keyword == COMMENT for keyword, _ in photo.texts)
    return ["PFM has no place for its comments"] * is_lost


FORMAT = Format(
    name="PNM",
    suffixes=(".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm"),
    matches=lambda head: head[:2] in _HEADERS and head[2:3].isspace(),
    read=read,
    write=write,
    depths=(8, 16, 32),
    upright=True,
    blocks=(),
    texts=(COMMENT,),
    losses=losses,
)


def _pam_header(path: Path, lines: bytes) -> tuple[int, int, int, int]:
    tuples = b" ".join(re.findall(rb"^TUPLTYPE\s+(\S+)", lines, re.M)).decode("ascii", "replace")
    if tuples.removesuffix("_ALPHA") not in ("", "BLACKANDWHITE", "GRAYSCALE", "RGB"):
        raise PhotoError(f"{path}: PAM of {tuples}", "convert it to RGB first")
    found = dict(re.findall(rb"^(WIDTH|HEIGHT|DEPTH|MAXVAL)\s+(\d{1,10})\s*$", lines, re.M))
    try:
        width, height, depth, largest = (
            int(found[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
        )
    except KeyError as error:
        raise PhotoError(
            f"{path}: damaged (no {error.args[0].decode()})", "copy it again"
        ) from error
    return width, height, depth, largest


def _goes_on(kind: bytes, body: bytes, count: int, largest: int) -> bool:
    """Return whether a further picture follows that of `count` samples."""
    if kind not in (b"P5", b"P6", b"P7"):
        return False
    rest = body[count * (2 if largest > 255 else 1) :]
    return rest[:2] in _HEADERS and _HEADERS[rest[:2]].match(rest[:_HEADER_LIMIT]) is not None


def _comments(header: bytes) -> tuple[tuple[str, str], ...]:
    lines = (line.strip().decode("utf-8", "replace") for line in _COMMENT.findall(header))
    return tuple((COMMENT, line) for line in lines if line)


def _samples(path: Path, body: bytes, count: int, dtype: np.dtype[np.generic]) -> Pixels:
    missing = count * dtype.itemsize - len(body)
    if missing > 0:
        raise PhotoError(
            f"{path}: the picture is cut short, {missing} bytes are missing",
            "copy it again from its source",
        )
    return np.frombuffer(body, dtype, count)


def _plain(path: Path, body: bytes, count: int, *, bits: bool) -> Pixels:
    """Read numbers in text; the digits of P1 need no space between them, and 1 is black."""
    body = re.sub(rb"#[^\n]*", b"", body)
    words = re.findall(rb"[01]", body) if bits else body.split()
    if len(words) < count:
        raise PhotoError(
            f"{path}: the picture is cut short, {count - len(words)} values are missing",
            "copy it again from its source",
        )
    try:
        values = np.array(words[:count]).astype(np.int64)
    except ValueError as error:
        raise PhotoError(f"{path}: damaged (no number)", "copy it again") from error
    return 1 - values if bits else values


def _full_range(values: Pixels, largest: int) -> Pixels:
    """Scale [0, largest] to [0, 255] or [0, 65535]."""
    dtype, top = (np.uint8, 255) if largest < 256 else (np.uint16, 65535)
    if largest == top:
        return values.astype(dtype)
    return ((values.astype(np.int64) * top + largest // 2) // largest).astype(dtype)
