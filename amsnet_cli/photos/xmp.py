"""XMP packets: properties changed or removed as text, so that the rest stays byte for byte.

XMP writes a simple property as an attribute or an element, a structure as an element (ISO 16684-1).
"""

from __future__ import annotations

import re

TIFF = "http://ns.adobe.com/tiff/1.0/"
EXIF = "http://ns.adobe.com/exif/1.0/"
CAMERA_RAW = "http://ns.adobe.com/camera-raw-settings/1.0/"
PANORAMA = "http://ns.google.com/photos/1.0/panorama/"
EXTENDED = "http://ns.adobe.com/xmp/note/"
THUMBNAILS = "http://ns.adobe.com/xap/1.0/"
GAIN_MAP = "http://ns.adobe.com/hdr-gain-map/1.0/"
APPLE_GAIN_MAP = "http://ns.apple.com/HDRGainMap/1.0/"
CAMERA = "http://ns.google.com/photos/1.0/camera/"
CONTAINER = "http://ns.google.com/photos/1.0/container/"
DEPTH = "http://ns.google.com/photos/1.0/depthmap/"
IMAGE = "http://ns.google.com/photos/1.0/image/"
AUDIO = "http://ns.google.com/photos/1.0/audio/"
_VALUE = rb"""\s*=\s*(?:"[^"]*"|'[^']*')"""


def without(packet: bytes, namespace: str, *names: str) -> bytes:
    """Remove properties.

    Args:
        packet: UTF-8; any other coding is returned as it is.
        namespace: of the properties, whatever its prefix is.
        names: of the properties; none for all in the namespace.
    """
    for prefix in _prefixes(packet, namespace):
        name = b"|".join(re.escape(n.encode()) for n in names) or rb"[\w.-]+"
        full = re.escape(prefix) + rb":(?:" + name + rb")"
        packet = re.sub(rb"\s+" + full + _VALUE, b"", packet)
        packet = re.sub(rb"<(" + full + rb")(?:\s[^<>]*)?/>\s*", b"", packet)
        packet = re.sub(rb"<(" + full + rb")(?:\s[^<>]*)?>.*?</\1\s*>\s*", b"", packet, flags=re.S)
    return packet


def with_number(packet: bytes, namespace: str, name: str, value: int) -> bytes:
    """Set a number where the packet has that property; elsewhere nothing changes."""
    text = str(value).encode()
    for prefix in _prefixes(packet, namespace):
        full = re.escape(prefix + b":" + name.encode())
        packet = re.sub(
            rb"(\s" + full + rb"\s*=\s*)([\"'])[^\"']*\2", rb"\g<1>\g<2>" + text + rb"\g<2>", packet
        )
        packet = re.sub(rb"(<" + full + rb">)[^<]*(</)", rb"\g<1>" + text + rb"\g<2>", packet)
    return packet


def number(packet: bytes, namespace: str, name: str) -> int | None:
    """Return a whole number, None where the packet has none."""
    for prefix in _prefixes(packet, namespace):
        full = re.escape(prefix + b":" + name.encode())
        found = re.search(rb"[\s<]" + full + rb"(?:\s*=\s*[\"']|>)\s*(\d{1,9})\s*[\"'<]", packet)
        if found:
            return int(found[1])
    return None


def _prefixes(packet: bytes, namespace: str) -> list[bytes]:
    pattern = rb"xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(namespace.encode()) + rb"[\"']"
    return list(dict.fromkeys(re.findall(pattern, packet)))
