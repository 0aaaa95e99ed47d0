"""JPEG 2000, with imagecodecs where it is installed; only read.

Its codestreams have no checksums: damage in the middle of one is noticed only where it leads the
decoder astray.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.boxes import box, is_cut_short, read_boxes
from amsnet_cli.photos.exif import orientation_of
from amsnet_cli.photos.extras import MALFORMED, package_missing
from amsnet_cli.photos.formats.format import Format, notes_of_other_data
from amsnet_cli.photos.limits import check_size
from amsnet_cli.photos.photo import FOURTH_CHANNELS, Photo, photo_of, with_usable_profile

_SIGNATURE = box(b"jP  ", b"\r\n\x87\n")
_CODESTREAM, _END = b"\xff\x4f\xff\x51", b"\xff\xd9"
_CODING = b"\xff\x52"
_EXIF = b"JpgTiffExif->JP2"
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_IPTC = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_UUIDS = (_EXIF, _XMP, _IPTC)
_KNOWN = (b"jP  ", b"ftyp", b"jp2h", b"jp2c", b"rreq", b"free")
_SPACES = {12: "CMYK", 14: "LAB", 18: "YCbCr", 20: "e-sRGB", 24: "e-YCbCr"}
_KNOWN_SPACES = (16, 17)
"""Of ISO 15444-1, table I.10: sRGB and its grey."""
_OPACITY, _PREMULTIPLIED = 1, 2


def read(path: Path, content: bytes) -> Photo:
    """Decode a JP2 file or a bare codestream.

    Args:
        path: for messages.
        content: the file.

    Returns:
        8 bits a channel, or 16 for files of 9 to 16.

    Raises:
        PhotoError: imagecodecs is not installed, or cannot read the file; or it is none of grey or
            RGB: palettes, YCbCr, CMYK, LAB, channels of several sizes.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise package_missing(path, "JPEG 2000") from error
    try:
        boxes: list[tuple[bytes, bytes]] = []
        codestream = content
        if content[:4] != _CODESTREAM:
            if is_cut_short(content):
                raise ValueError("a box is cut short")
            boxes = list(read_boxes(content))
            codestream = next((body for kind, body in boxes if kind == b"jp2c"), b"")
        header = list(read_boxes(next((body for kind, body in boxes if kind == b"jp2h"), b"")))
        size, bits, channels = _size(codestream)
        _check_colours(path, header)
        _check_header(header, (size[1], size[0], channels))
        check_size(path, content, size, channels * 2)
        if not codestream.rstrip(b"\0").endswith(_END):
            raise ValueError("no end of the codestream")
        samples = np.asarray(imagecodecs.jpeg2k_decode(content))
        samples = samples.reshape(size[1], size[0], channels)
    except MALFORMED as error:
        raise PhotoError(
            f"{path}: not a picture, damaged or cut short ({' '.join(str(error).split())})",
            "copy it again from its source",
        ) from error
    if bits not in (8, 16):
        dtype = np.uint8 if bits < 8 else np.uint16
        scale = np.iinfo(dtype).max / ((1 << bits) - 1)
        samples = np.rint(samples * scale).clip(0, np.iinfo(dtype).max).astype(dtype)
    blocks = {body[:16]: body[16:] for kind, body in boxes if kind == b"uuid"}
    exif = (blocks.get(_EXIF) or b"").removeprefix(b"Exif\0\0") or None
    others = [kind for kind, body in boxes if kind not in _KNOWN and body[:16] not in _UUIDS]
    profiles = [body[3:] for kind, body in header if kind == b"colr" and body[:1] == b"\2"]
    return with_usable_profile(
        photo_of(
            samples,
            fourth_channel=FOURTH_CHANNELS[_meaning(header)],
            icc=profiles[0] if profiles else None,
            exif=exif,
            xmp=blocks.get(_XMP),
            iptc=blocks.get(_IPTC),
            orientation=orientation_of(exif) if exif else 1,
            dpi=_dpi(header),
            quantisation_step=None if _is_reversible(codestream) else 0.0,
            notes=tuple(notes_of_other_data(kind.decode("ascii", "ignore") for kind in others)),
        )
    )


FORMAT = Format(
    name="JPEG 2000",
    suffixes=(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    matches=lambda head: head[:4] == _CODESTREAM or head[:12] == _SIGNATURE,
    read=read,
)


def _size(codestream: bytes) -> tuple[tuple[int, int], int, int]:
    """Return the size, the bits a channel and the number of channels (ISO 15444-1, A.5.1)."""
    if codestream[:4] != _CODESTREAM:
        raise ValueError("no codestream")
    right, bottom, left, top = struct.unpack_from(">4I", codestream, 8)
    (channels,) = struct.unpack_from(">H", codestream, 40)
    layouts = {codestream[at : at + 3] for at in range(42, 42 + 3 * channels, 3)}
    if channels not in (1, 2, 3, 4) or len(layouts) != 1:
        raise ValueError(f"{channels} channels of several kinds")
    (bits, across, down) = layouts.pop()
    if (across, down) != (1, 1) or bits > 15:  # the highest bit: signed
        raise ValueError("subsampled channels, or samples of another type")
    if right <= left or bottom <= top:
        raise ValueError("impossible sizes")
    return (right - left, bottom - top), bits + 1, channels


def _check_header(header: list[tuple[bytes, bytes]], expected: tuple[int, int, int]) -> None:
    """Raise `ValueError` where height, width and channels are not those of the codestream."""
    for kind, body in header:
        if kind == b"ihdr" and struct.unpack_from(">IIH", body) != expected:
            raise ValueError("the header is of another picture than the codestream")


def _check_colours(path: Path, header: list[tuple[bytes, bytes]]) -> None:
    for kind, body in header:
        if kind == b"pclr":
            raise PhotoError(f"{path}: JPEG 2000 with a palette", "convert it to RGB first")
        if kind == b"colr" and body[:1] == b"\1":
            (space,) = struct.unpack_from(">I", body, 3)
            if space not in _KNOWN_SPACES:
                name = _SPACES.get(space, f"other ({space})")
                raise PhotoError(
                    f"{path}: JPEG 2000 with {name} colours", "convert it to RGB first"
                )


def _meaning(header: list[tuple[bytes, bytes]]) -> int:
    """Return what the last channel is, as an index of `FOURTH_CHANNELS`."""
    definitions = next((body[2:] for kind, body in header if kind == b"cdef"), b"")
    kinds = {struct.unpack_from(">HHH", definitions, at)[1] for at in range(0, len(definitions), 6)}
    return 2 if _OPACITY in kinds else 1 if _PREMULTIPLIED in kinds else 0


def _dpi(header: list[tuple[bytes, bytes]]) -> tuple[float, float] | None:
    """Return the resolution, of the screen rather than of the capture (ISO 15444-1, I.5.3.7)."""
    boxes = dict(read_boxes(next((body for kind, body in header if kind == b"res "), b"")))
    found = boxes.get(b"resd") or boxes.get(b"resc")
    if found is None or len(found) < 10:
        return None
    over_y, under_y, over_x, under_x, power_y, power_x = struct.unpack_from(">4H2b", found)
    if not (over_x and over_y and under_x and under_y):
        return None
    across, down = over_x / under_x * 10.0**power_x, over_y / under_y * 10.0**power_y
    return across * 0.0254, down * 0.0254  # points to a metre


def _is_reversible(codestream: bytes) -> bool:
    """Return whether the wavelet is the one without loss (ISO 15444-1, A.6.1)."""
    at = codestream.find(_CODING)
    return at >= 0 and codestream[at + 13 : at + 14] == b"\1"
