"""EXIF blocks: read and changed in place.

A block's bytes stay where they are, and new ones go behind them: maker notes point to places in
the block that only their camera's maker knows.
"""

from __future__ import annotations

import math
import struct

from amsnet_cli.photos import ifd, ifd_edit
from amsnet_cli.photos.ifd import Directory, Entry, MalformedError

MAKE, MODEL, ORIENTATION, SOFTWARE = 0x010F, 0x0110, 0x0112, 0x0131
MAKER_NOTE = 0x927C

_SIZE = (0xA002, 0xA003)
"""PixelXDimension and PixelYDimension."""
LONGEST = 65527
"""Bytes of a block that fit into a segment of a JPEG file."""
_SENSITIVITIES = (0x8827, 0x8832, 0x8833, 0x8831)
"""Photographic sensitivity, and the 32-bit tags for values beyond its 16 bits (EXIF 2.3)."""
_FOCAL_LENGTH, _EQUIVALENT_FOCAL_LENGTH = 0x920A, 0xA405
_RESOLUTION, _RESOLUTION_UNIT = 0xA20E, 0xA210
"""Photosites to a unit of the focal plane."""
_MICROMETRES = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}
"""In an inch, a centimetre, a millimetre, a micrometre."""
_RATIONAL = 5
_UNKNOWN_SPEED = 0xFFFF
_NO_SPEED = 0xFFFFFFFF
"""The first number that EXIF cannot hold."""
_LONGEST_NAME = 100
"""Bytes of a maker's or model's name that are read."""


def make_block(tree: Directory, order: str, note_place: int | None = None) -> bytes | None:
    """Make an EXIF block of a directory; None where it holds nothing but an orientation.

    Empty text, which cameras fill with zero bytes and other readers stumble over, is left out,
    and so are the types of BigTIFF.

    Args:
        tree: with values in the byte order `order`.
        order: "<" or ">".
        note_place: where the maker note shall lie, as it did before; None for any place.
    """
    kept = _without_empty_text(tree)
    if not kept or set(kept) == {ORIENTATION}:
        return None
    header = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 0)
    note = _note_of(kept)
    if note is None or note_place is None or note_place < len(header):
        return ifd.append_tree(header, kept)
    return append_tree(header.ljust(note_place, b"\0") + note.value, kept, note_place)


def append_tree(content: bytes, tree: Directory, note_place: int | None) -> bytes:
    """Make a tree the first directory of a file; its maker note lies at a place in it already.

    Many maker notes hold places of their values as counted from the beginning of the file.

    Args:
        content: a file, or the beginning of a block.
        tree: in the file's byte order.
        note_place: of the maker note; None where it is to be added as all else.
    """
    note, below = _note_of(tree), tree.get(ifd.EXIF_IFD)
    if note_place is None or note is None or not isinstance(below, dict):
        return ifd.append_tree(content, tree)
    nothing = Entry(type=note.type, count=0, value=b"")
    content = ifd.append_tree(content, {**tree, ifd.EXIF_IFD: {**below, MAKER_NOTE: nothing}})
    pointer = struct.pack(ifd.byte_order(content) + "I", note_place)
    there = Entry(type=note.type, count=note.count, value=pointer)
    return ifd_edit.overwritten(content, ifd.EXIF_IFD, MAKER_NOTE, there)


def note_place_of(content: bytes) -> int | None:
    """Return where the maker note of a block or TIFF file lies; None where there is none."""
    try:
        return ifd_edit.place_of(content, ifd.EXIF_IFD, MAKER_NOTE)
    except MalformedError:
        return None


def _note_of(tree: Directory) -> Entry | None:
    below = tree.get(ifd.EXIF_IFD)
    note = below.get(MAKER_NOTE) if isinstance(below, dict) else None
    return note if isinstance(note, Entry) and len(note.value) > 4 else None


def is_sound(exif: bytes) -> bool:
    """Return whether a block has a readable directory."""
    try:
        return bool(ifd.read_tree(exif))
    except MalformedError:
        return False


def camera_of(exif: bytes | None) -> tuple[str | None, int | None]:
    """Return the camera that took a photo, and its ISO speed.

    Args:
        exif: an EXIF block, or None.

    Returns:
        Maker and model in one, the maker left out where the model begins with its first word
        ("NIKON D800"); and the ISO speed. Each is None if missing or damaged.
    """
    try:
        tree = ifd.read_tree(exif or b"")
        order = ifd.byte_order(exif or b"")
    except MalformedError:
        return None, None
    make, model = (_words(tree.get(tag)) for tag in (MAKE, MODEL))
    if make and not model.casefold().startswith(make.split()[0].casefold()):
        model = f"{make} {model}".strip()
    below = tree.get(ifd.EXIF_IFD)
    tags = {**tree, **below} if isinstance(below, dict) else tree
    speeds = (ifd.first_number(tags.get(tag), order, 0) for tag in _SENSITIVITIES)
    return model or None, next((iso for iso in speeds if _is_speed(iso)), None)


def pitch_of(exif: bytes | None, shape: tuple[int, ...]) -> float | None:
    """Return the distance between photosites in micrometres.

    It is told by FocalPlaneXResolution, else by the focal length and its equivalent for the
    diagonal of a film frame, 43.27 mm.

    Args:
        exif: an EXIF block, or None.
        shape: height and width of the sensor's picture, in photosites.

    Returns:
        None if it is not told, or the sensor would be less than 3 or more than 80 mm wide.
    """
    try:
        tree = ifd.read_tree(exif or b"")
        order = ifd.byte_order(exif or b"")
    except MalformedError:
        return None
    below = tree.get(ifd.EXIF_IFD)
    if not isinstance(below, dict):
        return None
    resolution, focal = (_fraction(below.get(tag), order) for tag in (_RESOLUTION, _FOCAL_LENGTH))
    unit = _MICROMETRES.get(ifd.first_number(below.get(_RESOLUTION_UNIT), order, 2))
    equivalent = ifd.first_number(below.get(_EQUIVALENT_FOCAL_LENGTH), order, 0)
    pitches = []
    if resolution and unit:
        pitches.append(unit / resolution)
    if focal and equivalent:
        pitches.append(43270 * focal / equivalent / math.hypot(*shape[:2]))
    return next((pitch for pitch in pitches if 3e3 <= pitch * shape[1] <= 8e4), None)


def maker_and_model(exif: bytes | None) -> tuple[str, str]:
    """Return the maker and the model of a camera as the block has them; empty if missing."""
    try:
        tree = ifd.read_tree(exif or b"")
    except MalformedError:
        return "", ""
    return _words(tree.get(MAKE)), _words(tree.get(MODEL))


def orientation_of(exif: bytes) -> int:
    """Return the orientation, 1 where it is missing or out of range."""
    try:
        value = ifd.first_number(ifd.read_tree(exif).get(ORIENTATION), ifd.byte_order(exif), 1)
    except MalformedError:
        return 1
    return value if 1 <= value <= 8 else 1


def size_of(exif: bytes) -> tuple[int, int] | None:
    """Return the width and height that the EXIF directory states, None where it does not."""
    try:
        order, below = ifd.byte_order(exif), ifd.read_tree(exif).get(ifd.EXIF_IFD)
    except MalformedError:
        return None
    if not isinstance(below, dict) or not set(_SIZE) <= below.keys():
        return None
    width, height = (ifd.first_number(below[tag], order, 0) for tag in _SIZE)
    return width, height


def with_size(exif: bytes, size: tuple[int, int]) -> bytes:
    """Overwrite the width and height that the EXIF directory states; a damaged block stays."""
    try:
        order = ifd.byte_order(exif)
        for tag, value in zip(_SIZE, size, strict=True):
            entry = Entry(type=ifd.LONG, count=1, value=struct.pack(order + "I", value))
            exif = ifd_edit.overwritten(exif, ifd.EXIF_IFD, tag, entry)
    except MalformedError:
        pass
    return exif


def without_thumbnail(exif: bytes) -> bytes:
    """Remove the second directory and blank the thumbnail that it points to."""
    try:
        return ifd_edit.without_second_directory(exif)
    except MalformedError:
        return exif


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
        return ifd_edit.without_entry(exif, ORIENTATION)
    except MalformedError:
        return exif


def with_software(exif: bytes | None, note: str) -> bytes | None:
    """Append a program's name to the software tag.

    Returns:
        The block; a new one where there was none; a damaged one as it is, and so is one that would
        become too long for a JPEG file.
    """
    if exif is not None and not is_sound(exif):
        return exif
    before = software_of(exif)
    noted = _with_value(exif, SOFTWARE, f"{before}; {note}" if before else note, needed=True)
    too_long = exif is not None and noted is not None and len(exif) <= LONGEST < len(noted)
    return exif if too_long else noted


def software_of(exif: bytes | None) -> str:
    """Return the software tag; empty if it is missing or damaged."""
    try:
        item = ifd.read_tree(exif or b"").get(SOFTWARE)
    except MalformedError:
        return ""
    return item.value.rstrip(b"\0 ").decode("utf-8", "replace") if isinstance(item, Entry) else ""


def shortened(exif: bytes) -> bytes | None:
    """Make a block of at most `LONGEST` bytes without the longest values and the thumbnail.

    Returns:
        The block; one of the orientation alone if it is damaged, None if that is 1.
    """
    try:
        tree, order = ifd.read_tree(exif), ifd.byte_order(exif)
    except MalformedError:
        return None
    limit = LONGEST // 4
    while limit > 8:
        block = make_block(_without_long_values(tree, limit), order)
        if block is None or len(block) <= LONGEST:
            return block or with_orientation(None, orientation_of(exif))
        limit //= 2
    return with_orientation(None, orientation_of(exif))


def _without_long_values(tree: Directory, limit: int) -> Directory:
    return {
        tag: _without_long_values(item, limit) if isinstance(item, dict) else item
        for tag, item in tree.items()
        if isinstance(item, dict) or len(item.value) <= limit
    }


def _without_empty_text(tree: Directory) -> Directory:
    return {
        tag: _without_empty_text(item) if isinstance(item, dict) else item
        for tag, item in tree.items()
        if isinstance(item, dict)
        or (item.type not in (16, 17, 18) and (item.type != ifd.ASCII or item.value.strip(b"\0 ")))
    }


def _words(item: Entry | Directory | None) -> str:
    """Read one line of text, single spaces between its words."""
    if not isinstance(item, Entry):
        return ""
    text = item.value[:_LONGEST_NAME].strip(b"\0 ").partition(b"\0")[0].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _fraction(item: Entry | Directory | None, order: str) -> float:
    """Read a fraction; 0 if it is missing, or none."""
    if not isinstance(item, Entry) or item.type != _RATIONAL or len(item.value) < 8:
        return 0.0
    over, under = struct.unpack(f"{order}II", item.value[:8])
    return over / under if under else 0.0


def _is_speed(iso: int) -> bool:
    return 0 < iso < _NO_SPEED and iso != _UNKNOWN_SPEED


def _with_value(exif: bytes | None, tag: int, value: int | str, *, needed: bool) -> bytes | None:
    """Set a tag; where `needed` is false, only if there is one already."""
    if exif is None:
        if not needed:
            return None
        exif = ifd.append_tree(b"II" + struct.pack("<HI", 42, 0), {})
    try:
        if not needed and tag not in ifd.read_tree(exif):
            return exif
        if isinstance(value, str):
            text = value.encode() + b"\0"
            entry = Entry(type=ifd.ASCII, count=len(text), value=text)
        else:
            short = struct.pack(ifd.byte_order(exif) + "H", value)
            entry = Entry(type=ifd.SHORT, count=1, value=short)
        return ifd_edit.with_entry(exif, tag, entry)
    except MalformedError:
        return exif
