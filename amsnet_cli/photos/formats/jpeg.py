"""JPEG (ITU-T T.81), with the metadata in its segments."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyvips
from PIL import ImageFile

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import pillow, vips
from amsnet_cli.photos.exif import LONGEST, orientation_of, shortened, with_orientation
from amsnet_cli.photos.extras import package_missing
from amsnet_cli.photos.formats.format import (
    OF_PHOTOS,
    RESOURCES,
    Format,
    notes_of_bytes_behind,
    notes_of_other_data,
)
from amsnet_cli.photos.formats.jpeg_damage import (
    bytes_behind,
    costs_pixels,
    damage_in,
    lacks_scans,
)
from amsnet_cli.photos.formats.jpeg_segments import (
    SEGMENT_LIMIT,
    coding_of,
    coding_of_quality,
    comments_of,
    exif_of,
    frame_of,
    has_further_pictures,
    has_profile,
    has_resolution,
    has_video,
    iptc_of,
    other_data,
    profile_of,
    resources_of,
    size_of,
    with_comments,
    with_resources,
    xmp_of,
)
from amsnet_cli.photos.limits import check_size
from amsnet_cli.photos.metadata import without_attachments
from amsnet_cli.photos.photo import COMMENT, Photo, with_usable_profile

_MOST_DOTS = 65535
"""Dots an inch, by the width of JFIF's numbers."""
QUALITY = 95
"""Of libjpeg's scale: what is written is quantised no coarser."""

_END = b"\xff\xd9"
_FILLING = bytes(8)
"""How the rest of a file looks that was not copied; as codes they would be odd, but valid."""

_maxblock_lock = threading.Lock()


def read(path: Path, content: bytes) -> Photo:
    """Decode a JPEG file; a missing end mark and oddities of headers become notes.

    Args:
        path: for messages.
        content: the file.

    Raises:
        PhotoError: see `check_size`, `vips.open_image` and `vips.decode`; or libjpeg warns of lost
            pixels.
    """
    check_size(path, content, size_of(content), 3)
    if frame_of(content)[0] > 8:
        return with_usable_profile(_with_segments(_decode_deep(path, content), content))
    warning, note = damage_in(content), ""
    filled_up = content.endswith(_FILLING)
    if costs_pixels(warning) and not filled_up and not costs_pixels(damage_in(content + _END)):
        content += _END
        warning, note = "", "the end mark of the file is missing, every pixel is there"
    if not warning and lacks_scans(content):
        warning = "scans are missing"
    if costs_pixels(warning):
        raise PhotoError(
            f"{path}: the picture is damaged or cut short ({warning})",
            "copy it again from its source, or save what is left of it with an image editor",
        )
    try:
        photo = _decode(path, content, "truncated" if warning else "warning")
    except PhotoError as error:  # `damage_in` does not see what Adobe's segment says.
        warning = vips.reason(error.__cause__) if isinstance(error.__cause__, pyvips.Error) else ""
        if not warning or costs_pixels(warning):
            raise
        photo = _decode(path, content, "truncated")
    note = f"libjpeg warns: {warning}" if warning else note
    return with_usable_profile(replace(photo, notes=(*photo.notes, note) if note else photo.notes))


def write(photo: Photo) -> bytes:
    """Encode a photo without chroma subsampling.

    No coefficient is quantised more coarsely than in the photo's own file or at `QUALITY`.
    """
    exif = with_orientation(photo.exif, photo.orientation)
    if exif and len(exif) > LONGEST:
        exif = with_orientation(shortened(exif), photo.orientation)
    xmp = photo.xmp if photo.xmp and len(photo.xmp) <= SEGMENT_LIMIT else None
    comments = [text for keyword, text in photo.texts if keyword == COMMENT]
    ours = coding_of_quality(QUALITY)
    coding = photo.jpeg or ours
    tables = [
        [max(1, min(pair)) for pair in zip(a, b, strict=True)]
        for a, b in ((coding.luma, ours.luma), (coding.chroma, ours.chroma))
    ]
    resolution = {"dpi": photo.dpi} if photo.dpi and _holds_resolution(photo) else {}
    # Pillow would scale the tables by a quality.
    with _room_for_scans(2 * photo.pixels.nbytes if coding.progressive else 0):
        content = pillow.encode(
            photo.pixels, "JPEG", icc=photo.icc, exif=exif, xmp=xmp,
            qtables=tables, subsampling="4:4:4", progressive=coding.progressive, **resolution,
        )  # fmt: skip
    return with_resources(with_comments(content, comments), *_fitting_resources(photo))


def losses(photo: Photo) -> list[str]:
    """List the metadata that is too long for a segment."""
    lost = []
    if photo.exif and len(photo.exif) > LONGEST:
        length = len(photo.exif)
        lost.append(
            f"its EXIF of {length} bytes is more than a JPEG can hold: cut to the essentials"
        )
    if not _holds_resolution(photo):
        lost.append(f"JPEG has no place for a resolution of more than {_MOST_DOTS} dots an inch")
    if photo.xmp and len(photo.xmp) > SEGMENT_LIMIT:
        lost.append(f"its XMP of {len(photo.xmp)} bytes is more than a JPEG can hold")
    pairs = zip((photo.iptc, photo.resources), _fitting_resources(photo), strict=True)
    for name, (block, fitting) in zip(("IPTC", RESOURCES), pairs, strict=True):
        if block and not fitting:
            lost.append(f"its {name} of {len(block)} bytes is more than a JPEG can hold")
    return lost


FORMAT = Format(
    name="JPEG",
    suffixes=(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    matches=lambda head: head.startswith(b"\xff\xd8\xff"),
    read=read,
    write=write,
    fourth_channels=(),
    longest_side=65500,
    blocks=OF_PHOTOS,
    texts=(COMMENT,),
    losses=losses,
)


def _holds_resolution(photo: Photo) -> bool:
    return photo.dpi is None or max(photo.dpi) <= _MOST_DOTS


def _fitting_resources(photo: Photo) -> tuple[bytes | None, bytes | None]:
    """Return the IPTC record and the image resources if they fit into one segment."""
    iptc = photo.iptc if photo.iptc and len(photo.iptc) <= SEGMENT_LIMIT else None
    room = SEGMENT_LIMIT - len(iptc or b"")
    return iptc, photo.resources if photo.resources and len(photo.resources) <= room else None


def _decode(path: Path, content: bytes, fail_on: str) -> Photo:
    image = vips.open_image(path, content, pyvips.Image.jpegload_buffer, fail_on=fail_on)
    return _with_segments(vips.decode(path, image), content)


def _decode_deep(path: Path, content: bytes) -> Photo:
    """Decode 9 to 16 bits a sample, scaled to the full range of 16 bits."""
    try:
        import imagecodecs
    except ImportError as error:
        raise package_missing(path, "JPEG of more than 8 bits") from error
    check_size(path, content, size_of(content), 6)
    if content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):  # imagecodecs fills up the rest.
        raise PhotoError(f"{path}: the picture is cut short", "copy it again from its source")
    try:
        array = imagecodecs.jpeg8_decode(content)
    except (imagecodecs.Jpeg8Error, ValueError, MemoryError) as error:
        raise PhotoError(
            f"{path}: the picture is damaged or cut short ({error})",
            "copy it again from its source",
        ) from error
    if array.ndim == 3 and array.shape[2] != 3:
        raise PhotoError(f"{path}: {array.shape[2]} channels", "convert it to RGB or grey first")
    largest = (1 << frame_of(content)[0]) - 1
    pixels = np.rint(array.astype(np.float32) * (65535 / largest)).clip(0, 65535)
    block = exif_of(content)
    return Photo(
        pixels=pixels.astype(np.uint16).reshape(*array.shape[:2], -1),
        icc=profile_of(content),
        exif=block,
        xmp=xmp_of(content),
        orientation=orientation_of(block) if block else 1,
    )


def _with_segments(photo: Photo, content: bytes) -> Photo:
    """Add what the segments of a file hold, and name what is left out."""
    notes = list(photo.notes)
    if has_further_pictures(content):
        notes.append("further pictures in the file, such as a preview or gain map, are left out")
    if photo.xmp and b"HasExtendedXMP" in photo.xmp:
        notes.append("XMP beyond its first part, such as a depth map, is left out")
    if has_video(content):
        notes.append("the video of a motion photo is left out")
    elif not has_further_pictures(content):
        notes += notes_of_bytes_behind(bytes_behind(content))
    notes += notes_of_other_data(other_data(content))
    if photo.icc is None and has_profile(content):
        notes.append("the colour profile is damaged: left out")
    photo = without_attachments(photo)
    coding = coding_of(content)
    says_resolution = has_resolution(content) or photo.exif is not None
    bits, lossless = frame_of(content)
    return replace(
        photo,
        iptc=iptc_of(content),
        resources=resources_of(content),
        texts=tuple((COMMENT, text) for text in comments_of(content)),
        # Where a file does not say, libvips takes 72 dots an inch.
        dpi=photo.dpi if says_resolution else None,
        jpeg=coding if bits == 8 else None,
        quantisation_step=None if lossless else coding.step / 2 ** (bits - 8) if coding else 0.0,
        notes=tuple(notes),
    )


@contextmanager
def _room_for_scans(size: int) -> Iterator[None]:
    """Let Pillow hold a whole progressive JPEG; it allots too little for fine quantisation."""
    if not size:
        yield
        return
    with _maxblock_lock:
        before = ImageFile.MAXBLOCK
        ImageFile.MAXBLOCK = max(before, size + (1 << 17))
        try:
            yield
        finally:
            ImageFile.MAXBLOCK = before
