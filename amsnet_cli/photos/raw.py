"""Read camera RAW files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import colour
from amsnet_cli.photos.exif import IPTC, XMP, exif_of_raw, tag_of_tiff, with_orientation
from amsnet_cli.photos.photo import Photo

RAW_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "iiq", "kdc", "mef"),
        *("mos", "mrw", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf"),
        *("srw", "x3f"),
    )
)

_CUT_SHORT = ("Unexpected end of file", "remature end")


@dataclass(frozen=True, kw_only=True)
class RawOptions:
    """How RAW files are developed.

    Attributes:
        development: "camera", with the camera's white balance into sRGB; "linear", the same in
            linear light and the wide primaries of Rec. 2020, for further editing; "auto", as
            "camera", but where the file holds no white balance it is estimated.
        highlights: what becomes of what is brighter than the sensor's white: "clip" makes it
            white; "blend" fades to white, and "rebuild" guesses its colours from what is not
            clipped; both darken the picture to make room.
    """

    development: Literal["auto", "camera", "linear"] = "auto"
    highlights: Literal["clip", "blend", "rebuild"] = "clip"


def read_raw(path: Path, content: bytes, options: RawOptions = RawOptions()) -> Photo:
    """Develop a RAW file.

    The camera's black and white levels, no automatic brightening, turned upright.

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
    wishes = {
        "white_balance": "auto" if options.development == "auto" else "camera",
        "space": "Rec2020" if linear else "sRGB",
        "highlights": options.highlights,
    }
    program = [sys.executable, str(Path(__file__).with_name("libraw.py")), json.dumps(wishes)]
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
    notes = ["no white balance in the file, estimated"] if answer["estimated"] else []
    if complaints:
        notes.append("parts of the file are damaged")
    return Photo(
        pixels=light if linear else colour.encode(light),
        icc=colour.linear_rec2020_profile() if linear else colour.srgb_profile(),
        exif=with_orientation(exif_of_raw(content), 1),
        xmp=tag_of_tiff(content, XMP),
        iptc=tag_of_tiff(content, IPTC),
        bits=16,
        notes=tuple(notes),
    )


def _refusal(path: Path, reason: str) -> PhotoError:
    return PhotoError(f"{path}: LibRaw cannot develop it ({reason})", "convert it to DNG or TIFF")
