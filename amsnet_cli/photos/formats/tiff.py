"""TIFF (6.0, and BigTIFF), with the metadata in its tags."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyvips

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import exif, ifd, vips
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.ifd import Directory, Entry, MalformedError
from amsnet_cli.photos.iptc import iptc_in_resources
from amsnet_cli.photos.photo import Photo, with_usable_profile

XMP, IPTC, PHOTOSHOP = 0x02BC, 0x83BB, 0x8649
"""Tags of what other formats hold outside of EXIF."""
_COMPRESSION, _PHOTOMETRIC = 259, 262
_PALETTE, _YCBCR = 3, 6
_JPEG_COMPRESSIONS = (6, 7)
_STRIPS_OR_TILES = ((273, 279), (324, 325))
"""Tags of the places and lengths of strips, and of tiles."""
_RESOLUTION = (0x011A, 0x011B, 0x0128)
_LAYOUT = frozenset(
    {
        *range(0x00FE, 0x0104), 0x0106, 0x0107, 0x0108, 0x0109, 0x010A, 0x0111, 0x0115, 0x0116,
        0x0117, 0x0118, 0x0119, 0x011A, 0x011B, 0x011C, 0x0120, 0x0121, 0x0122, 0x0123, 0x0124,
        0x0125, 0x0128, 0x012D, *range(0x013D, 0x0157), 0x015B, *range(0x0200, 0x020A),
        *range(0x0211, 0x0215), XMP, IPTC, PHOTOSHOP, 0x8773, 0x935C,
    }
)  # fmt: skip
"""Tags of how the pixels are stored, of layers, and of what `Photo` holds elsewhere."""


def read(path: Path, content: bytes) -> Photo:
    """Decode a TIFF file.

    Args:
        path: for messages.
        content: the file.

    Raises:
        PhotoError: see `vips.open_image` and `vips.decode`; or YCbCr that is not JPEG.
    """
    image = vips.open_image(path, content, pyvips.Image.tiffload_buffer)
    _check_layout(path, content)
    photo = vips.decode(path, image)
    if ifd.number_of(content, _PHOTOMETRIC) == _PALETTE:
        photo = replace(photo, notes=(*photo.notes, "palette turned into RGB"))
    resources = ifd.value_of(content, PHOTOSHOP) or b""
    iptc = ifd.value_of(content, IPTC) or iptc_in_resources(resources)
    return with_usable_profile(replace(photo, exif=exif_of(content), iptc=iptc))


def write(photo: Photo) -> bytes:
    """Encode a photo with deflate; pixels are exact."""
    image = vips.image_of(photo)
    image.set_type(pyvips.GValue.gint_type, "orientation", photo.orientation)
    # Not every program knows the predictor for float.
    predictor = "none" if photo.depth == 32 else "horizontal"
    content = image.tiffsave_buffer(compression="deflate", predictor=predictor)
    block = photo.exif if photo.exif and exif.is_sound(photo.exif) else None
    return with_exif(content, block, photo.iptc, resolution=photo.dpi is not None)


def losses(photo: Photo) -> list[str]:
    """List a damaged EXIF block, whose tags cannot be moved."""
    damaged = photo.exif and not exif.is_sound(photo.exif)
    return ["its EXIF is damaged, so TIFF cannot hold it"] if damaged else []


FORMAT = Format(
    name="TIFF",
    suffixes=(".tif", ".tiff"),
    matches=lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    read=read,
    write=write,
    depths=(8, 16, 32),
    losses=losses,
)


def exif_of(content: bytes) -> bytes | None:
    """Make an EXIF block of a TIFF file's tags but those of its layout.

    Returns:
        The block, or None where there is nothing to keep.
    """
    try:
        tree = ifd.read_tree(content)
    except MalformedError:
        return None
    kept = {tag: item for tag, item in tree.items() if tag not in _LAYOUT}
    return exif.make_block(kept, ifd.byte_order(content))


def with_exif(
    content: bytes, block: bytes | None, iptc: bytes | None = None, *, resolution: bool = True
) -> bytes:
    """Add the tags of an EXIF block and an IPTC record to a TIFF file.

    Args:
        content: a TIFF file of one picture; its pixels stay where they are.
        block: an EXIF block; its orientation is left out, as the file has one.
        iptc: an IPTC-IIM record.
        resolution: whether to keep the file's resolution, which libvips always writes.

    Raises:
        MalformedError: the block has no directory.
    """
    order = ifd.byte_order(content)
    added: Directory = {}
    if block is not None:
        tree = ifd.reordered(ifd.read_tree(block), ifd.byte_order(block), order)
        added = {
            tag: item
            for tag, item in tree.items()
            if tag not in _LAYOUT and tag != exif.ORIENTATION
        }
    if iptc is not None:
        added[IPTC] = Entry(type=ifd.UNDEFINED, count=len(iptc), value=iptc)
    own = ifd.read_tree(content)
    if not resolution:
        own = {tag: item for tag, item in own.items() if tag not in _RESOLUTION}
    return ifd.append_tree(content, own | added)


def end_of_pixels(content: bytes) -> int:
    """Return the place behind the last strip or tile.

    Raises:
        MalformedError: the file does not say where they are.
    """
    tree, order = ifd.read_tree(content), ifd.byte_order(content)
    for starts_tag, lengths_tag in _STRIPS_OR_TILES:
        starts, lengths = tree.get(starts_tag), tree.get(lengths_tag)
        if isinstance(starts, Entry):
            places = ifd.numbers(starts, order)
            sizes = ifd.numbers(lengths, order) if isinstance(lengths, Entry) else []
            if len(sizes) != len(places):  # old programs leave them out
                return max(places)
            return max(start + size for start, size in zip(places, sizes, strict=True))
    raise MalformedError("no strips or tiles")


def _check_layout(path: Path, content: bytes) -> None:
    """Refuse a file that libvips would decode wrongly without an error.

    It pads one that is cut short, and takes YCbCr for RGB unless it is JPEG.
    """
    ycbcr = ifd.number_of(content, _PHOTOMETRIC) == _YCBCR
    if ycbcr and ifd.number_of(content, _COMPRESSION) not in _JPEG_COMPRESSIONS:
        raise PhotoError(f"{path}: YCbCr colours that are not JPEG", "convert it to RGB first")
    try:
        missing = end_of_pixels(content) - len(content)
    except MalformedError as error:
        raise PhotoError(f"{path}: the picture is damaged ({error})", "copy it again") from error
    if missing > 0:
        raise PhotoError(
            f"{path}: the picture is cut short, {missing} bytes are missing",
            "copy it again from its source",
        )
