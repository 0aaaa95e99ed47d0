"""The texts of a PNG file, and the metadata that programs keep in them."""

from __future__ import annotations

import re
import zlib

from amsnet_cli.photos import exif
from amsnet_cli.photos.image_resources import iptc_in_resources, resource_of_iptc

KINDS = (b"tEXt", b"zTXt", b"iTXt")
"""Of chunks with texts."""
_RAW_PROFILE = "Raw profile type "
_PROFILES = ("exif", "app1", "xmp", "iptc", "8bim", "icc", "icm")
XMP_KEYWORD = "XML:com.adobe.xmp"
_LARGEST_TEXT = 1 << 23


def texts_of(found: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Return keyword and text of the text chunks (PNG, 11.3.3); malformed ones are left out."""
    texts = []
    for kind, payload in found:
        keyword, separator, rest = payload.partition(b"\0")
        if kind not in KINDS or not separator:
            continue
        coding, packed = "latin-1", kind == b"zTXt"
        if kind == b"iTXt":
            coding, packed = "utf-8", rest[:1] == b"\1"
            rest = rest[:2] + rest[2:].split(b"\0", 2)[-1]
            rest = rest[1:] if packed else rest[2:]
        try:
            if packed:
                stream = zlib.decompressobj()
                rest = stream.decompress(rest[1:], _LARGEST_TEXT)
                if stream.unconsumed_tail:
                    continue
            texts.append((keyword.decode("latin-1"), rest.decode(coding)))
        except (zlib.error, UnicodeDecodeError):
            continue
    return texts


def raw_profile(text: tuple[str, str]) -> tuple[str, bytes]:
    """Return name and bytes of a raw profile, as ImageMagick, ExifTool and RawTherapee write it.

    Other texts give empty bytes.
    """
    keyword, content = text
    if not keyword.startswith(_RAW_PROFILE):
        return "", b""
    # A name, of several words in ExifTool's, the length, then hexadecimal digits in lines.
    found = re.fullmatch(r"\s*[^\n]*\n\s*\d+\s*\n([\s0-9a-fA-F]*)", content)
    try:
        return keyword[len(_RAW_PROFILE) :].lower(), bytes.fromhex(found[1] if found else "")
    except ValueError:
        return "", b""


def xmp_chunk(xmp: bytes) -> tuple[bytes, bytes]:
    """Make the text chunk that XMP belongs in (XMP specification, part 3, 1.1.5)."""
    return b"iTXt", XMP_KEYWORD.encode() + b"\0\0\0\0\0" + xmp


def resources_chunk(iptc: bytes | None, resources: bytes | None) -> tuple[bytes, bytes]:
    """Make the text chunk of an IPTC-IIM record, as ImageMagick and ExifTool read it.

    With image resources it becomes one of them, as in a JPEG file.
    """
    record = iptc or b""
    if resources:
        record = (resource_of_iptc(iptc) if iptc else b"") + resources
    text = f"\niptc\n{len(record):8}\n{record.hex()}\n"
    return b"zTXt", f"{_RAW_PROFILE}iptc".encode() + b"\0\0" + zlib.compress(text.encode())


def text_chunk(keyword: str, text: str) -> tuple[bytes, bytes]:
    """Make a chunk of a text, in Latin-1 where it fits."""
    head = keyword.encode("latin-1", "replace")[:79] + b"\0"
    try:
        return b"tEXt", head + text.encode("latin-1")
    except UnicodeEncodeError:
        return b"iTXt", head + b"\0\0\0\0" + text.encode()


def is_metadata(text: tuple[str, str]) -> bool:
    """Return whether a text holds EXIF, XMP, IPTC or a colour profile."""
    name, data = raw_profile(text)
    return text[0] == XMP_KEYWORD or (name in _PROFILES and bool(data))


def exif_in(profiles: dict[str, bytes]) -> bytes | None:
    """Return a sound EXIF block."""
    block = profiles.get("exif") or profiles.get("app1") or b""
    block = block.removeprefix(b"Exif\0\0")
    return block if exif.is_sound(block) else None


def xmp_in_app1(profiles: dict[str, bytes]) -> bytes | None:
    """Return the XMP packet in a copy of a JPEG file's segment."""
    packet = profiles.get("app1", b"")
    head = b"http://ns.adobe.com/xap/1.0/\0"
    return packet.removeprefix(head) if packet.startswith(head) else None


def iptc_in(profiles: dict[str, bytes]) -> bytes | None:
    """Return the IPTC-IIM record, alone or among image resources."""
    resources = resources_in(profiles)
    return iptc_in_resources(resources) if resources else profiles.get("iptc") or None


def resources_in(profiles: dict[str, bytes]) -> bytes:
    """Return Photoshop's image resources; empty bytes for none."""
    found = (profiles.get(name, b"") for name in ("iptc", "8bim"))
    return next((block for block in found if block.startswith(b"8BIM")), b"")
