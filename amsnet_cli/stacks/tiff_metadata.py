"""Carry the tags of TIFF pages over, and fit what ImageJ and OME say to fewer pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import tifffile

_DESCRIPTION, _SOFTWARE = 270, 305
_IMAGEJ = (50838, 50839)
_LAYOUT = frozenset(
    {
        *range(254, 260), 262, 266, 273, *range(277, 285), 288, 289, 292, 293, 296, 317,
        *range(320, 326), 330, 338, 339, 340, 341, 347, 34665, 34853, 40965,
    }
)  # fmt: skip
"""Tags of how the pixels are stored, of further directories, and of the resolution."""
_IMAGEJ_AXES = {"T": "frames", "Z": "slices", "C": "channels"}
_IMAGEJ_STEPS = {"T": "finterval", "Z": "spacing"}
_OME_STEPS = {"T": "TimeIncrement", "Z": "PhysicalSizeZ"}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The places of the first axis that are kept.

    Attributes:
        axes: of the pages, first the one that is cut.
        lengths: of these axes before.
        places: of the first.
    """

    axes: str
    lengths: tuple[int, ...]
    places: range

    @property
    def first(self) -> str:
        """The axis that is cut."""
        return self.axes[:1] or "I"


def tags_of(
    file: tifffile.TiffFile, page: Any, *, first: bool, selection: Selection | None,
    numbers: list[int],
) -> list[tuple[Any, ...]]:  # fmt: skip
    """Return the tags of a page as `tifffile.TiffWriter.write` takes them.

    Args:
        file: that holds the page.
        page: None where the file has no directory for it.
        first: whether it becomes the first page, which has what is said of the whole stack.
        selection: None if all pages are kept.
        numbers: of the pages that are kept.
    """
    head = file.pages.first
    source = head if first else page
    if source is None:
        return []
    tags: list[tuple[Any, ...]] = []
    for tag in source.aspage().tags:
        if tag.code in _LAYOUT:
            continue
        file.filehandle.seek(tag.valueoffset)
        value: Any = file.filehandle.read(tag.valuebytecount)
        if first and tag.code == _DESCRIPTION and selection:
            value = _described(file, selection)
        elif first and tag.code in _IMAGEJ and selection:
            continue
        tags.append((tag.code, int(tag.dtype), None, value, False))
    if first and selection and file.is_imagej:
        tags += _imagej_tags(file, numbers)
    return tags


def resolution_of(page: Any) -> dict[str, Any]:
    """Return a page's resolution as arguments of `tifffile.TiffWriter.write`."""
    tags = page.aspage().tags
    if "XResolution" not in tags or "YResolution" not in tags:
        return {}
    unit = tags.get("ResolutionUnit")
    return {
        "resolution": (tags["XResolution"].value, tags["YResolution"].value),
        "resolutionunit": None if unit is None else unit.value,
    }


def _imagej_tags(file: tifffile.TiffFile, numbers: list[int]) -> list[tuple[Any, ...]]:
    tag = file.pages.first.tags.get(_IMAGEJ[1])
    if tag is None or not isinstance(tag.value, dict):
        return []
    metadata = dict(tag.value)
    labels = metadata.get("Labels")
    if isinstance(labels, list):
        metadata["Labels"] = [labels[i] for i in numbers if i < len(labels)]
    return list(tifffile.tifffile.imagej_metadata_tag(metadata, file.byteorder))


def _described(file: tifffile.TiffFile, selection: Selection) -> bytes:
    text = str(file.pages.first.description)
    if file.is_imagej:
        text = imagej_description(text, selection)
    elif file.is_ome:
        text = ome_description(text, selection)
    elif file.is_shaped:
        text = re.sub(r'("shape": \[)\d+', lambda found: f"{found[1]}{len(selection.places)}", text)
    return text.encode() + b"\0"


def imagej_description(text: str, selection: Selection) -> str:
    """Change what ImageJ says of the numbers of images, frames, slices or channels."""
    count, axis = len(selection.places), selection.first
    total = count
    for length in selection.lengths[1:]:
        total *= length
    changes: dict[str, Any] = {"images": total, _IMAGEJ_AXES.get(axis, ""): count}
    step = _IMAGEJ_STEPS.get(axis, "")
    lines = []
    for line in text.split("\n"):
        key, _, text_value = line.partition("=")
        value: Any = text_value
        if key in changes:
            value = changes[key]
        elif key == step and selection.places.step > 1:
            value = float(value) * selection.places.step
        elif key == "fps" and axis == "T":
            value = float(value) / selection.places.step
        lines.append(f"{key}={value}" if "=" in line else line)
    return "\n".join(lines)


def ome_description(text: str, selection: Selection) -> str:
    """Change the sizes, planes and time steps of OME-XML with one picture."""
    root = ElementTree.fromstring(text)
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    ElementTree.register_namespace("", space.strip("{}"))
    pixels = root.find(f".//{space}Pixels")
    axis = selection.first
    if pixels is None or f"Size{axis}" not in pixels.attrib:
        return text
    pixels.set(f"Size{axis}", str(len(selection.places)))
    step = _OME_STEPS.get(axis, "")
    if step in pixels.attrib:
        pixels.set(step, repr(float(pixels.attrib[step]) * selection.places.step))
    order = "".join(reversed(selection.axes))
    rest = "".join(a for a in "CZT" if a not in order)
    pixels.set("DimensionOrder", f"XY{order}{rest}")
    for data in pixels.findall(f"{space}TiffData"):
        pixels.remove(data)
    for plane in pixels.findall(f"{space}Plane"):
        place = int(plane.attrib[f"The{axis}"])
        if place in selection.places:
            plane.set(f"The{axis}", str(selection.places.index(place)))
        else:
            pixels.remove(plane)
    channels = pixels.findall(f"{space}Channel")
    if axis == "C":
        for place, channel in enumerate(channels):
            if place not in selection.places:
                pixels.remove(channel)
    after = [child.tag for child in pixels]
    where = after.index(f"{space}Plane") if f"{space}Plane" in after else len(after)
    total = len(selection.places)
    for length in selection.lengths[1:]:
        total *= length
    pixels.insert(where, ElementTree.Element(f"{space}TiffData", {"PlaneCount": str(total)}))
    return '<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(root, encoding="unicode")
