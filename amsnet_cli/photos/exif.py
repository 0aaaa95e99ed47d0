"""EXIF blocks: moved between containers, with as little touched as possible.

A block's bytes stay where they are, and what is new goes behind them: maker notes point to places
in the block that only their camera's maker knows.
"""

from __future__ import annotations

import struct

from amsnet_cli.photos import jpeg, tiff
from amsnet_cli.photos.tiff import Directory, Entry, MalformedError

MAKE, MODEL, ORIENTATION, SOFTWARE = 0x010F, 0x0110, 0x0112, 0x0131
_APP1 = 0xE1
_CR3_HEAD = 1 << 20
"""Bytes in which a CR3 file has its metadata."""
XMP, IPTC, PHOTOSHOP = 0x02BC, 0x83BB, 0x8649
"""Tags of a TIFF file that hold what other files keep outside of EXIF."""

_DESCRIPTIVE = frozenset(
    {0x010E, MAKE, MODEL, ORIENTATION, SOFTWARE, 0x0132, 0x013B, 0x8298, tiff.EXIF, tiff.GPS}
)
"""What says something of a RAW file's picture: the rest is of its sensor, or a thumbnail's."""

_SENSITIVITIES = (0x8827, 0x8832, 0x8833, 0x8831)
"""Photographic sensitivity, and what says more where its 16 bits do not reach (EXIF 2.3)."""
_UNKNOWN_SPEED = 0xFFFF
_NO_SPEED = 0xFFFFFFFF
"""From here on a number is none of EXIF's."""
_LONGEST_NAME = 100
"""Bytes of a maker's or model's name that count."""

_RESOLUTION = (0x011A, 0x011B, 0x0128)
_LAYOUT = frozenset(
    {
        *range(0x00FE, 0x0104), 0x0106, 0x0107, 0x0108, 0x0109, 0x010A, 0x0111, 0x0115, 0x0116,
        0x0117, 0x0118, 0x0119, 0x011A, 0x011B, 0x011C, 0x0120, 0x0121, 0x0122, 0x0123, 0x0124,
        0x0125, 0x0128, 0x012D, *range(0x013D, 0x0157), 0x015B, *range(0x0200, 0x020A),
        *range(0x0211, 0x0215), XMP, IPTC, PHOTOSHOP, 0x8773, 0x935C,
    }
)  # fmt: skip
"""How a TIFF's pixels are stored, and what is carried in other ways or is of its layers."""


def exif_of_tiff(content: bytes, *, raw: bool = False) -> bytes | None:
    """Collect what a TIFF file says of its picture beside the pixels, values as they are.

    Args:
        content: the file.
        raw: a RAW file, whose first directory describes a thumbnail and the sensor: only camera,
            exposure, place and author are taken.

    Returns:
        An EXIF block, or None where there is nothing to keep.
    """
    try:
        tree = tiff.read_tree(content)
    except MalformedError:
        return None
    kept: Directory = {}
    for tag, item in tree.items():
        if tag in _DESCRIPTIVE if raw else tag not in _LAYOUT:
            kept[tag] = item
    kept = _said(kept)
    if not kept or set(kept) == {ORIENTATION}:
        return None
    order = content[:2]
    header = order + struct.pack(tiff.byte_order(content) + "HI", 42, 0)
    return tiff.append_tree(header, kept)


def exif_of_raw(content: bytes) -> bytes | None:
    """Collect camera, exposure, place and author from a RAW file.

    Most are TIFF files. Fujifilm's RAF holds a JPEG with the EXIF, whose place is in its header;
    Canon's CR3 holds the directories as TIFF files of their own, in boxes of ISO 14496-12.

    Returns:
        An EXIF block, or None where there is nothing to keep.
    """
    if content.startswith(b"FUJIFILMCCD-RAW ") and len(content) > 92:
        place, length = struct.unpack_from(">II", content, 84)
        return exif_of_jpeg(content[place : place + length])
    if content[4:12] == b"ftypcrx ":
        return _exif_of_boxes(content[:_CR3_HEAD])
    return exif_of_tiff(content, raw=True)


def exif_of_jpeg(content: bytes) -> bytes | None:
    """Return a JPEG file's EXIF block as it is."""
    for marker, _, payload in jpeg.segments(content):
        if marker == _APP1 and payload.startswith(b"Exif\0\0"):
            return payload[6:]
    return None


def _exif_of_boxes(content: bytes) -> bytes | None:
    parts: list[Directory] = []
    for name in (b"CMT1", b"CMT2", b"CMT4"):  # the first directory, EXIF, GPS
        at = content.find(name)
        size = struct.unpack_from(">I", content, at - 4)[0] if at >= 4 else 8
        block = content[at + 4 : at - 4 + size]
        try:
            parts.append(tiff.reordered(tiff.read_tree(block), tiff.byte_order(block), "<"))
        except MalformedError:
            parts.append({})
    first, exposure, place = parts
    tree = {tag: item for tag, item in first.items() if tag in _DESCRIPTIVE}
    tree |= {tag: part for tag, part in ((tiff.EXIF, exposure), (tiff.GPS, place)) if part}
    return tiff.append_tree(b"II*\0\0\0\0\0", _said(tree)) if tree else None


def tag_of_tiff(content: bytes, tag: int) -> bytes | None:
    """Return the bytes of a tag in a TIFF file's first directory."""
    try:
        item = tiff.read_tree(content).get(tag)
    except MalformedError:
        return None
    return item.value if isinstance(item, Entry) else None


def is_sound(exif: bytes) -> bool:
    """Tell whether a block has a directory that can be read."""
    try:
        return bool(tiff.read_tree(exif))
    except MalformedError:
        return False


def camera_of(exif: bytes | None) -> tuple[str | None, int | None]:
    """Tell which camera took a photo, and at which sensitivity.

    Args:
        exif: an EXIF block, or None.

    Returns:
        Maker and model in one, the maker left out where the model begins with its first word
        ("NIKON D800"); and the ISO speed. Each None where the block does not say, or is damaged.
    """
    try:
        tree = tiff.read_tree(exif or b"")
        order = tiff.byte_order(exif or b"")
    except MalformedError:
        return None, None
    make, model = (_words(tree.get(tag)) for tag in (MAKE, MODEL))
    if make and not model.casefold().startswith(make.split()[0].casefold()):
        model = f"{make} {model}".strip()
    below = tree.get(tiff.EXIF)
    said = {**tree, **below} if isinstance(below, dict) else tree
    speeds = (_first_number(said.get(tag), order) for tag in _SENSITIVITIES)
    return model or None, next((iso for iso in speeds if _is_speed(iso)), None)


def with_orientation(exif: bytes | None, orientation: int) -> bytes | None:
    """Set the orientation tag.

    Args:
        exif: an EXIF block, or None.
        orientation: 1 to 8.

    Returns:
        The block; a new one where there was none and the picture is rotated; a damaged one as
        it is.
    """
    return _with_value(exif, ORIENTATION, orientation, needed=orientation != 1)


def without_orientation(exif: bytes) -> bytes:
    """Remove the orientation tag; a damaged block is returned as it is."""
    try:
        return tiff.without_entry(exif, ORIENTATION)
    except MalformedError:
        return exif


def with_software(exif: bytes | None, note: str) -> bytes | None:
    """Note in the software tag what made the picture, behind what is there.

    Returns:
        The block; a new one where there was none; a damaged one as it is.
    """
    before = ""
    if exif is not None:
        try:
            item = tiff.read_tree(exif).get(SOFTWARE)
        except MalformedError:
            return exif
        if isinstance(item, Entry):
            before = item.value.rstrip(b"\0 ").decode("utf-8", "replace")
    return _with_value(exif, SOFTWARE, f"{before}; {note}" if before else note, needed=True)


def tiff_with_exif(
    content: bytes, exif: bytes | None, iptc: bytes | None = None, *, resolution: bool = True
) -> bytes:
    """Give a TIFF file the tags of an EXIF block and an IPTC record.

    Args:
        content: a TIFF file of one picture; its pixels stay where they are.
        exif: an EXIF block; its orientation is left to the file.
        iptc: an IPTC-IIM record.
        resolution: whether to keep the file's resolution, which libvips writes in any case.

    Raises:
        MalformedError: the block has no directory.
    """
    order = tiff.byte_order(content)
    added: Directory = {}
    if exif is not None:
        tree = tiff.reordered(tiff.read_tree(exif), tiff.byte_order(exif), order)
        added = {t: item for t, item in tree.items() if t not in _LAYOUT and t != ORIENTATION}
    if iptc is not None:
        added[IPTC] = Entry(type=tiff.UNDEFINED, count=len(iptc), value=iptc)
    own = tiff.read_tree(content)
    if not resolution:
        own = {tag: item for tag, item in own.items() if tag not in _RESOLUTION}
    return tiff.append_tree(content, own | added)


def _said(tree: Directory) -> Directory:
    """Leave out empty text and what only BigTIFF can hold.

    Cameras fill text with zero bytes, which other readers stumble over.
    """
    return {
        tag: _said(item) if isinstance(item, dict) else item
        for tag, item in tree.items()
        if isinstance(item, dict)
        or (item.type not in (16, 17, 18) and (item.type != tiff.ASCII or item.value.strip(b"\0 ")))
    }


def _words(item: Entry | Directory | None) -> str:
    """Read one line of text, single spaces between its words."""
    if not isinstance(item, Entry):
        return ""
    text = item.value[:_LONGEST_NAME].strip(b"\0 ").partition(b"\0")[0].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _is_speed(iso: int) -> bool:
    return 0 < iso < _NO_SPEED and iso != _UNKNOWN_SPEED


def _first_number(item: Entry | Directory | None, order: str) -> int:
    """Read a whole number; 0 where there is none."""
    try:
        return tiff.numbers(item, order)[0] if isinstance(item, Entry) else 0
    except MalformedError:
        return 0


def _with_value(exif: bytes | None, tag: int, value: int | str, *, needed: bool) -> bytes | None:
    """Set a tag; where `needed` is false, only if there is one already."""
    if exif is None:
        if not needed:
            return None
        exif = tiff.append_tree(b"II" + struct.pack("<HI", 42, 0), {})
    try:
        if not needed and tag not in tiff.read_tree(exif):
            return exif
        if isinstance(value, str):
            text = value.encode() + b"\0"
            entry = Entry(type=tiff.ASCII, count=len(text), value=text)
        else:
            short = struct.pack(tiff.byte_order(exif) + "H", value)
            entry = Entry(type=tiff.SHORT, count=1, value=short)
        return tiff.with_entry(exif, tag, entry)
    except MalformedError:
        return exif
