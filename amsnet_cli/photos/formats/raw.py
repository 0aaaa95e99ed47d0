"""Camera RAW files, read and developed by LibRaw in a process of its own (`libraw_process.py`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import colour, dng_tags, exif, ifd, xmp
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.formats.libraw_process import run_libraw
from amsnet_cli.photos.formats.raw_exif import exif_of
from amsnet_cli.photos.formats.tiff import IPTC, PHOTOSHOP, XMP
from amsnet_cli.photos.ifd import MalformedError
from amsnet_cli.photos.image_resources import iptc_in_resources, kept_resources
from amsnet_cli.photos.metadata import marked_upright
from amsnet_cli.photos.mosaic import (
    XYZ_TO_SRGB,
    Box,
    ColourMatrix,
    Mosaic,
    MosaicPhoto,
    within,
)
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import with_depth

_SIGNATURES = (
    *(b"FUJIFILMCCD-RAW", b"\0MRM", b"FOVb", b"IIU\0", b"IIRO", b"IIRS", b"MMOR"),
    b"II*\0\x10\0\0\0CR",
)
"""Of Fujifilm, Minolta, Sigma, Panasonic, Olympus, and Canon's CR2."""
_PHOTOMETRIC = 262
_SENSOR_VALUES = (32803, 34892)
"""Photometric interpretations of a colour filter array, and of linear RAW."""
DEVELOPED_BITS = 16
"""Bits a channel that a developed photo is written with, where the format holds as many."""
_DAMAGED = "parts of the file are damaged"


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

    The camera's black and white levels are used, the picture is upright. Nothing is brightened but
    as a DNG file says (BaselineExposure), and its DefaultCrop is shown.

    Args:
        path: for messages.
        content: the file.
        options: see `RawOptions`.

    Returns:
        RGB, or grey of monochrome sensors, float32 with 0 for black and 1 for white, noise below
        black included, to be written with 16 bits; its colour profile, and the camera's EXIF.

    Raises:
        PhotoError: LibRaw cannot open or develop the file, or it is cut short.
    """
    return _photo(path, content, options)


def develop(
    path: Path, content: bytes, mosaic: Mosaic, options: RawOptions = RawOptions()
) -> Photo:
    """Develop a RAW file with another mosaic in place of its own, and nothing else changed.

    Args:
        path: for messages.
        content: the file.
        mosaic: as from `read_mosaic`, with other values.
        options: see `RawOptions`.

    Returns:
        See `read`. With the file's own mosaic it is the same photo.

    Raises:
        PhotoError: see `read`.
    """
    return _photo(path, content, options, mosaic.values)


def read_undeveloped(path: Path, content: bytes) -> MosaicPhoto:
    """Read a RAW file without developing it.

    Args:
        path: for messages.
        content: the file.

    Raises:
        NotAMosaicError: see `read_mosaic`.
        PhotoError: see `read`.
    """
    mosaic, damaged = _read_mosaic(path, content)
    return MosaicPhoto(
        pixels=mosaic.values[..., None], exif=exif_of(content), mosaic=mosaic, content=content,
        notes=(_DAMAGED,) if damaged else (),
    )  # fmt: skip


def with_mosaic(photo: MosaicPhoto, mosaic: Mosaic) -> MosaicPhoto:
    """Return a photo with another mosaic."""
    return replace(photo, mosaic=mosaic, pixels=mosaic.values[..., None])


def shown_part(photo: MosaicPhoto) -> Box:
    """Return which part of the active area a developed photo shows: the DefaultCrop of DNG."""
    if dng_tags.read(photo.content) is not None:
        return photo.mosaic.crop
    return (0, photo.mosaic.values.shape[0], 0, photo.mosaic.values.shape[1])


def profile_of(mosaic: Mosaic, options: RawOptions) -> bytes:
    """Return the colour profile of the photo into which a mosaic is developed."""
    return _profile(1 if mosaic.monochrome else 3, linear=options.development == "linear")


def develop_preview(path: Path, content: bytes, mosaic: Mosaic) -> NDArray[np.uint8]:
    """Develop a small picture of another mosaic for viewing.

    Args:
        path: for messages.
        content: the file.
        mosaic: as from `read_mosaic`, with other values.

    Returns:
        (H, W, 1) or (H, W, 3), half as large as the photo, in sRGB, not turned.

    Raises:
        PhotoError: see `read`.
    """
    photo = _photo(path, content, RawOptions(), mosaic.values, preview=True)
    return with_depth(photo, 8).pixels


def read_mosaic(path: Path, content: bytes) -> Mosaic:
    """Read the mosaic of a RAW file.

    Args:
        path: for messages.
        content: the file.

    Raises:
        NotAMosaicError: it holds none, or one with other colours than red, green and blue.
        PhotoError: see `read`.
    """
    mosaic, damaged = _read_mosaic(path, content)
    if damaged:
        raise PhotoError(f"{path}: {_DAMAGED}", "copy it again from the card")
    return mosaic


def _read_mosaic(path: Path, content: bytes) -> tuple[Mosaic, bool]:
    """Read a mosaic, and whether LibRaw complains of damage."""
    tags = dng_tags.read(content)
    answer, frame, complaints = run_libraw(path, content, tags, {"measure_matrix": tags is None})
    area = _box(answer["area"])
    balance, matrix = answer["balance"], answer["matrix"]
    if answer.get("from_srgb"):
        matrix = np.array(answer["from_srgb"]) @ XYZ_TO_SRGB
    neutral = None if balance is None else min(balance) / np.array(balance)
    mosaic = Mosaic(
        frame=frame, area=area, crop=_box(answer["crop"]),
        colours=np.array(answer["colours"], np.uint8), black=np.array(answer["black"]),
        white=answer["white"], saturation=answer["saturation"],
        masked=_borders(frame.shape, area),
        neutral=None if neutral is None else (neutral[0], neutral[1], neutral[2]),
        colour_matrices=()
        if matrix is None
        else (ColourMatrix(illuminant=dng_tags.D65, matrix=np.array(matrix)),),
        orientation=answer["orientation"],
    )  # fmt: skip
    block = exif_of(content)
    make, model = exif.maker_and_model(block)
    mosaic = replace(
        mosaic,
        make=make,
        model=model,
        iso=exif.camera_of(block)[1],
        pitch=exif.pitch_of(block, mosaic.values.shape),
    )
    if tags is None:
        return mosaic, bool(complaints)
    black = tags.black_from(area)
    mosaic = replace(
        mosaic,
        black=mosaic.black if black is None else black,
        masked=tags.masked_areas or mosaic.masked,
        neutral=tags.neutral,
        colour_matrices=tags.colour_matrices or mosaic.colour_matrices,
        noise_profile=tags.noise_profile,
        baseline_exposure=tags.baseline_exposure,
        crop=within(tags.crop, area),
        opcodes=tags.opcodes,
    )
    return mosaic, bool(complaints)


def _photo(
    path: Path,
    content: bytes,
    options: RawOptions,
    values: NDArray[np.uint16] | None = None,
    *,
    preview: bool = False,
) -> Photo:
    linear = options.development == "linear"
    tags = dng_tags.read(content)
    settings: dict[str, Any] = {
        "white_balance": "auto" if options.development == "auto" else "camera",
        "space": "Rec2020" if linear else "sRGB",
        "highlights": options.highlights,
        "preview": preview,
    }
    if tags is not None:
        settings["crop"] = tags.crop
        if tags.neutral and tags.told_as_white_xy:
            settings["balance"] = [1 / value for value in tags.neutral]
    answer, pixels, complaints = run_libraw(path, content, tags, {"develop": settings}, values)
    light = pixels.astype(np.float32)
    del pixels
    light *= answer["scale"]
    light += answer["offset"]
    if tags is not None and tags.baseline_exposure:
        light = _exposed(light, tags.baseline_exposure, linear=linear)
    notes = ["no white balance in the file, estimated"] if answer["estimated"] else []
    if complaints:
        notes.append(_DAMAGED)
    packet = ifd.value_of(content, XMP)
    resources = ifd.value_of(content, PHOTOSHOP) or b""
    photo = Photo(
        pixels=light if linear else colour.encode(light),
        icc=_profile(light.shape[2], linear=linear),
        exif=exif_of(content),
        # Settings that a RAW converter has yet to apply do not suit developed pixels.
        xmp=packet and xmp.without(packet, xmp.CAMERA_RAW),
        iptc=ifd.value_of(content, IPTC) or iptc_in_resources(resources),
        resources=kept_resources(resources),
        bits=DEVELOPED_BITS,
        notes=tuple(notes),
    )
    return marked_upright(photo)


def _exposed(light: NDArray[np.float32], stops: float, *, linear: bool) -> NDArray[np.float32]:
    """Brighten or darken by stops; white stays white, and nothing becomes brighter than it.

    Darkened pictures for viewing keep their white by a parabola from a quarter of it on, which
    begins with the slope of the straight part.
    """
    exposed: NDArray[np.float32] = light * np.float32(2.0**stops)
    if stops > 0:
        np.minimum(exposed, np.maximum(light, 1), out=exposed)
    elif not linear:
        bend = np.float32(16 / 9 * (1 - 2.0**stops))
        exposed += bend * np.maximum(light - np.float32(0.25), 0) ** 2
    return exposed


def _borders(shape: tuple[int, ...], area: Box) -> tuple[Box, ...]:
    """Return the strips above and to the left of the active area, and below and to the right."""
    top, bottom, left, right = area
    height, width = shape
    strips = (
        (0, top, left, right), (bottom, height, left, right),
        (top, bottom, 0, left), (top, bottom, right, width),
    )  # fmt: skip
    return tuple(strip for strip in strips if strip[0] < strip[1] and strip[2] < strip[3])


def _box(numbers: list[int]) -> Box:
    top, bottom, left, right = numbers
    return top, bottom, left, right


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


def _profile(channels: int, *, linear: bool) -> bytes:
    if channels == 1:
        curve = (1.0,) if linear else colour.SRGB_CURVE
        return colour.grey_profile("Linear grey" if linear else "Grey of sRGB", curve)
    return colour.linear_rec2020_profile() if linear else colour.srgb_profile()
