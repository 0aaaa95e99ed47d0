"""TIFF (6.0, and BigTIFF), with the metadata in its tags."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyvips

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import exif, exif_order, ifd, vips
from amsnet_cli.photos.formats import imagej, tiff_pixels
from amsnet_cli.photos.formats.format import OF_PHOTOS, Format
from amsnet_cli.photos.ifd import Directory, Entry, MalformedError
from amsnet_cli.photos.image_resources import (
    has_clipping_paths,
    iptc_in_resources,
    kept_resources,
)
from amsnet_cli.photos.photo import FOURTH_CHANNELS, Photo, with_usable_profile

XMP, IPTC, PHOTOSHOP, ICC = 0x02BC, 0x83BB, 0x8649, 0x8773
"""Tags of what other formats hold outside of EXIF."""
LAYERS = 0x935C
"""Tag of Photoshop's layers (ImageSourceData)."""
_SUBFILE, _OLD_SUBFILE = 254, 255
_REDUCED, _MASK = 1, 4
_XRES, _YRES, _UNIT = 0x011A, 0x011B, 0x0128
_DOTS_PER_INCH = {2: 1.0, 3: 2.54}
_EXTRA_SAMPLES = 338
_STRIP_OFFSETS = 273
_LAYOUT = frozenset(
    {
        *range(0x00FE, 0x0104), 0x0106, 0x0107, 0x0108, 0x0109, 0x010A, 0x0111, 0x0115, 0x0116,
        0x0117, 0x0118, 0x0119, 0x011A, 0x011B, 0x011C, 0x0120, 0x0121, 0x0122, 0x0123, 0x0124,
        0x0125, 0x0128, 0x012D, 0x013D, *range(0x0140, 0x0157), 0x015B, *range(0x0200, 0x020A),
        *range(0x0211, 0x0215), XMP, IPTC, PHOTOSHOP, ICC, LAYERS,
    }
)  # fmt: skip
"""Tags of how the pixels are stored, of layers, and of what `Photo` holds elsewhere."""
_FARTHEST_NOTE = 32_000
"""Place up to which a maker note stays where it was, in a block that JPEG can hold."""
_PRIVATE = 0x8000
_FREE_OF_ORDER = frozenset({0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F})
"""Private tags of bytes that are the same in either byte order: Windows' texts in UTF-16."""
_TEXT = frozenset(b"\t\n\r" + bytes(range(32, 127)))


def read(path: Path, content: bytes) -> Photo:
    """Decode the only full picture in a TIFF file; thumbnails and masks are left out.

    Args:
        path: for messages.
        content: the file.

    Raises:
        PhotoError: see `tiff_pixels.decode`; or there is no full picture, or more than one.
    """
    try:
        order = ifd.byte_order(content)
        pages = ifd.read_directories(content)
        if not ifd.ends_within(content):
            raise MalformedError("its directory goes on behind the end of the file")
    except MalformedError as error:
        raise PhotoError(
            f"{path}: not a picture, or damaged ({error})", "copy it again from its source"
        ) from error
    page = _full_picture(path, pages, order)
    photo = tiff_pixels.decode(path, content, page, alone=len(pages) == 1)
    tags = {**pages[0], **page}
    resources = _bytes(tags, PHOTOSHOP) or b""
    notes = list(photo.notes)
    if len(pages) > 1:
        notes.append("thumbnails and masks in the file are left out")
    if LAYERS in tags:
        notes.append("Photoshop's layers are left out")
    if has_clipping_paths(resources):
        notes.append("clipping paths are left out")
    note_place = exif.note_place_of(content)
    if note_place is not None and note_place > _FARTHEST_NOTE:
        notes.append("its maker notes have to move: what they point to may be wrong")
        note_place = None
    orientation = ifd.first_number(tags.get(exif.ORIENTATION), order, 1)
    return with_usable_profile(
        replace(
            photo,
            # CMYK has become sRGB, with its profile.
            icc=photo.icc or _bytes(tags, ICC),
            exif=exif_of(tags, order, note_place),
            xmp=_bytes(tags, XMP),
            iptc=_bytes(tags, IPTC) or iptc_in_resources(resources),
            resources=kept_resources(resources),
            orientation=orientation if 1 <= orientation <= 8 else 1,
            dpi=_dpi(tags, order),
            notes=tuple(notes),
        )
    )


def write(photo: Photo) -> bytes:
    """Encode a photo with deflate; pixels are exact."""
    image = vips.image_of(photo)
    image.set_type(pyvips.GValue.gint_type, "orientation", photo.orientation)
    # Not every program knows the predictor for float.
    predictor = "none" if photo.depth == 32 else "horizontal"
    content = image.tiffsave_buffer(compression="deflate", predictor=predictor)
    block = photo.exif if photo.exif and exif.is_sound(photo.exif) else None
    added: Directory = {}
    if photo.alpha is not None:
        kind = struct.pack("<H", FOURTH_CHANNELS.index(photo.fourth_channel))
        added[_EXTRA_SAMPLES] = Entry(type=ifd.SHORT, count=1, value=kind)
    for tag, data in ((IPTC, photo.iptc), (PHOTOSHOP, photo.resources)):
        if data is not None:
            added[tag] = Entry(type=ifd.UNDEFINED, count=len(data), value=data)
    return with_tags(content, block, added, resolution=photo.dpi is not None)


def losses(photo: Photo) -> list[str]:
    """List what cannot be moved: a damaged EXIF block, private tags of unknown byte order."""
    if not photo.exif:
        return []
    if not exif.is_sound(photo.exif):
        return ["its EXIF is damaged, so TIFF cannot hold it"]
    lost = [str(tag) for tag in _unmovable(ifd.read_tree(photo.exif), ifd.byte_order(photo.exif))]
    return [f"private TIFF tags that hold bytes in another order: {', '.join(lost)}"] * bool(lost)


FORMAT = Format(
    name="TIFF",
    suffixes=(".tif", ".tiff"),
    matches=lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    read=read,
    write=write,
    depths=(8, 16, 32),
    fourth_channels=FOURTH_CHANNELS,
    blocks=OF_PHOTOS,
    losses=losses,
)


def exif_of(tags: Directory, order: str, note_place: int | None = None) -> bytes | None:
    """Make an EXIF block of a TIFF file's tags but those of its layout.

    Args:
        tags: the directory.
        order: "<" or ">".
        note_place: where the maker note lies in the file, and shall lie in the block.

    Returns:
        The block, or None where there is nothing to keep.
    """
    kept = {tag: item for tag, item in tags.items() if tag not in _LAYOUT}
    return exif.make_block(kept, order, note_place)


def with_tags(
    content: bytes, block: bytes | None, added: Directory, *, resolution: bool = True
) -> bytes:
    """Add the tags of an EXIF block and others to a TIFF file.

    Args:
        content: a little-endian TIFF file of one picture; its pixels stay where they are.
        block: an EXIF block; its orientation is left out, as the file has one.
        added: further tags.
        resolution: whether to keep the file's resolution, which libvips always writes.

    Raises:
        MalformedError: the block has no directory.
    """
    order = ifd.byte_order(content)
    moved: Directory = {}
    note_place = None
    if block is not None:
        own_order, tree = ifd.byte_order(block), ifd.read_tree(block)
        lost = _unmovable(tree, own_order)
        tree = {tag: item for tag, item in tree.items() if tag not in (*_LAYOUT, *lost)}
        for module in (imagej, exif_order, ifd):
            tree = module.reordered(tree, own_order, order)
        moved = tree
        moved.pop(exif.ORIENTATION, None)
        note_place = exif.note_place_of(block)
        if note_place is not None:
            content = _behind(block, content)
    own = ifd.read_tree(content)
    if not resolution:
        own = {tag: item for tag, item in own.items() if tag not in (_XRES, _YRES, _UNIT)}
    return exif.append_tree(content, own | moved | added, note_place)


def _behind(block: bytes, content: bytes) -> bytes:
    """Put an EXIF block before the pixels of a little-endian TIFF file, in its own places."""
    block += b"\0" * (len(block) % 2)
    tree, shift = ifd.read_tree(content), len(block) - 8
    places = tree[_STRIP_OFFSETS]
    assert isinstance(places, Entry)
    moved = np.array(ifd.numbers(places, "<"), "<u4") + np.uint32(shift)
    tree[_STRIP_OFFSETS] = Entry(type=ifd.LONG, count=len(moved), value=moved.tobytes())
    return ifd.append_tree(b"".join([content[:8], block[8:], memoryview(content)[8:]]), tree)


def _unmovable(tags: Directory, order: str) -> list[int]:
    """List private tags of bytes, which may be in the byte order of a file that is not ours."""
    if order == "<":
        return []
    return [
        tag
        for tag, item in tags.items()
        if tag >= _PRIVATE
        and tag not in (*_LAYOUT, *_FREE_OF_ORDER, *imagej.TAGS)
        and isinstance(item, Entry)
        and item.type in (1, 6, ifd.UNDEFINED)
        and not _is_text(item.value)
    ]


def _is_text(value: bytes) -> bool:
    return all(byte in _TEXT for byte in value.rstrip(b"\0"))


def _full_picture(path: Path, pages: list[Directory], order: str) -> Directory:
    """Return the directory of the only picture that is neither a thumbnail nor a mask."""

    def is_full(page: Directory) -> bool:
        kind = ifd.first_number(page.get(_SUBFILE), order, 0)
        old = ifd.first_number(page.get(_OLD_SUBFILE), order, 1)
        return not kind & (_REDUCED | _MASK) and old != 2 and 256 in page

    full = [page for page in pages if is_full(page)]
    if len(full) > 1:
        raise PhotoError(f"{path}: {len(full)} pages or frames", "save the one you want on its own")
    if not full and len(pages) == 1:
        return pages[0]
    if not full:
        raise PhotoError(f"{path}: only thumbnails and masks in it", "export the picture again")
    return full[0]


def _bytes(tags: Directory, tag: int) -> bytes | None:
    item = tags.get(tag)
    return item.value if isinstance(item, Entry) else None


def _dpi(tags: Directory, order: str) -> tuple[float, float] | None:
    unit = _DOTS_PER_INCH.get(ifd.first_number(tags.get(_UNIT), order, 2))
    values = [_bytes(tags, tag) or b"" for tag in (_XRES, _YRES)]
    if unit is None or any(len(value) != 8 for value in values):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs = np.frombuffer(b"".join(values), f"{order}u4").reshape(2, 2)
        x, y = (float(value) for value in pairs[:, 0] / pairs[:, 1] * unit)
    return (x, y) if 0 < x < np.inf and 0 < y < np.inf else None
