"""Camera RAW files, developed by LibRaw in a process of its own (`libraw.py`)."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import colour, exif, ifd, xmp
from amsnet_cli.photos.formats import jpeg_segments
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.formats.tiff import IPTC, XMP
from amsnet_cli.photos.ifd import Directory, MalformedError
from amsnet_cli.photos.metadata import marked_upright
from amsnet_cli.photos.photo import Photo

_CR3_HEAD = 1 << 20
"""Bytes at the beginning of a CR3 file that hold its metadata."""
_DESCRIPTIVE = frozenset(
    {
        *(0x010E, exif.MAKE, exif.MODEL, exif.ORIENTATION, exif.SOFTWARE, 0x0132, 0x013B, 0x8298),
        *(ifd.EXIF_IFD, ifd.GPS_IFD),
    }
)
"""Tags that describe the picture; the others are of the sensor or of a thumbnail."""
_SIGNATURES = (
    *(b"FUJIFILMCCD-RAW", b"\0MRM", b"FOVb", b"IIU\0", b"IIRO", b"IIRS", b"MMOR"),
    b"II*\0\x10\0\0\0CR",
)
"""Of Fujifilm, Minolta, Sigma, Panasonic, Olympus, and Canon's CR2."""
_PHOTOMETRIC = 262
_SENSOR_VALUES = (32803, 34892)
"""Photometric interpretations of a colour filter array, and of linear RAW."""
_CUT_SHORT = ("Unexpected end of file", "remature end")


@dataclass(frozen=True, kw_only=True)
class RawOptions:
    """How RAW files are developed.

    Attributes:
        development: "camera", with the camera's white balance into sRGB; "linear", the same in
            linear light and the wide primaries of Rec. 2020, for further editing; "auto", as
            "camera", but where the file holds no white balance it is estimated.
        highlights: how clipped highlights look: "clip" makes them white, "blend" fades to white,
            "rebuild" guesses their colours from the channels that are not clipped; both darken
            the picture to make room.
    """

    development: Literal["auto", "camera", "linear"] = "auto"
    highlights: Literal["clip", "blend", "rebuild"] = "clip"


def read(path: Path, content: bytes, options: RawOptions = RawOptions()) -> Photo:
    """Develop a RAW file.

    The camera's black and white levels are used, nothing is brightened, the picture is upright.

    Args:
        path: for messages.
        content: the file.
        options: see `RawOptions`.

    Returns:
        RGB float32 with 0 for black and 1 for white, noise below black included, to be written
        with 16 bits; its colour profile, and the camera's EXIF.

    Raises:
        PhotoError: LibRaw cannot open or develop the file, or it is cut short.
    """
    linear = options.development == "linear"
    settings = {
        "white_balance": "auto" if options.development == "auto" else "camera",
        "space": "Rec2020" if linear else "sRGB",
        "highlights": options.highlights,
    }
    program = [sys.executable, str(Path(__file__).with_name("libraw.py")), json.dumps(settings)]
    try:
        done = subprocess.run(
            program, input=content, capture_output=True, check=False,
            timeout=120 + 4e-6 * len(content),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise _refusal(path, "it takes too long") from error
    complaints = done.stderr.decode(errors="replace")
    if done.returncode:
        raise _refusal(path, "it crashes on it")
    start = done.stdout.find(b"\n") + 1
    answer = json.loads(done.stdout[:start])
    if "error" in answer:
        raise _refusal(path, answer["error"])
    if any(words in complaints for words in _CUT_SHORT):
        raise PhotoError(f"{path}: damaged or cut short", "copy it again from the camera's card")
    pixels = np.frombuffer(done.stdout, np.uint16, offset=start)
    light = pixels.reshape(answer["shape"]).astype(np.float32)
    light *= answer["scale"]
    light += answer["offset"]
    estimated = answer["estimated"] and light.shape[2] == 3
    notes = ["no white balance in the file, estimated"] if estimated else []
    if complaints:
        notes.append("parts of the file are damaged")
    packet = ifd.value_of(content, XMP)
    photo = Photo(
        pixels=light if linear else colour.encode(light),
        icc=_profile(light.shape[2], linear=linear),
        exif=exif_of(content),
        # Settings that a RAW converter has yet to apply do not suit developed pixels.
        xmp=packet and xmp.without(packet, xmp.CAMERA_RAW),
        iptc=ifd.value_of(content, IPTC),
        bits=16,
        notes=tuple(notes),
    )
    return marked_upright(photo)


FORMAT = Format(
    name="RAW",
    suffixes=(
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc"),
        *(".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl"),
        *(".sr2", ".srf", ".srw", ".x3f"),
    ),
    matches=lambda head: False,
    read=read,
)


def is_raw(content: bytes) -> bool:
    """Return whether a file is RAW by its own word: a maker's signature, or a sensor's picture.

    LibRaw cannot be asked, as it takes any grey TIFF of 16 bits for a mosaic. Nor do DNG's other
    tags count, which programs copy into developed pictures.
    """
    if content.startswith(_SIGNATURES) or content[4:12] == b"ftypcrx ":
        return True
    if content[6:14] == b"HEAPCCDR":  # Canon's CRW
        return True
    try:
        order, pages = ifd.byte_order(content), ifd.read_directories(content)
    except MalformedError:
        return False
    kinds = (ifd.first_number(page.get(_PHOTOMETRIC), order, 0) for page in pages)
    return any(kind in _SENSOR_VALUES for kind in kinds)


def exif_of(content: bytes) -> bytes | None:
    """Make an EXIF block of camera, exposure, place and author.

    Most RAW files are TIFF files. Fujifilm's RAF holds a JPEG with the EXIF, whose place is in its
    header; Canon's CR3 holds the directories as TIFF files of their own, in boxes of ISO 14496-12.

    Returns:
        The block, or None where there is nothing to keep.
    """
    if content.startswith(b"FUJIFILMCCD-RAW ") and len(content) > 92:
        place, length = struct.unpack_from(">II", content, 84)
        return jpeg_segments.exif_of(content[place : place + length])
    if content[4:12] == b"ftypcrx ":
        return _exif_of_boxes(content[:_CR3_HEAD])
    try:
        tree = ifd.read_tree(content)
    except MalformedError:
        return None
    return exif.make_block(_descriptive(tree), ifd.byte_order(content))


def _exif_of_boxes(content: bytes) -> bytes | None:
    parts: list[Directory] = []
    for name in (b"CMT1", b"CMT2", b"CMT4"):  # the first directory, EXIF, GPS
        at = content.find(name)
        size = struct.unpack_from(">I", content, at - 4)[0] if at >= 4 else 8
        block = content[at + 4 : at - 4 + size]
        try:
            parts.append(ifd.reordered(ifd.read_tree(block), ifd.byte_order(block), "<"))
        except MalformedError:
            parts.append({})
    first, exposure, place = parts
    tree = _descriptive(first)
    tree |= {tag: part for tag, part in ((ifd.EXIF_IFD, exposure), (ifd.GPS_IFD, place)) if part}
    return exif.make_block(tree, "<")


def _descriptive(tree: Directory) -> Directory:
    return {tag: item for tag, item in tree.items() if tag in _DESCRIPTIVE}


def _profile(channels: int, *, linear: bool) -> bytes:
    if channels == 1:
        curve = (1.0,) if linear else colour.SRGB_CURVE
        return colour.grey_profile("Linear grey" if linear else "Grey of sRGB", curve)
    return colour.linear_rec2020_profile() if linear else colour.srgb_profile()


def _refusal(path: Path, reason: str) -> PhotoError:
    return PhotoError(f"{path}: LibRaw cannot develop it ({reason})", "convert it to DNG or TIFF")
