"""Fewer places along an axis of a Zarr folder: what its metadata then have to say."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amsnet_cli.errors import UsageError
from amsnet_cli.stacks.zarr_layout import LABELS, ZarrNode, ZarrPicture
from amsnet_cli.stacks.zarr_pyramid import factors_of

_FILES = (".zarray", ".zattrs", "zarr.json")
_OLD_COLLECTION = ".zmetadata"


def check_selectable(folder: Path, nodes: Sequence[ZarrNode], pictures: int) -> None:
    """Refuse a folder in which fewer pages would not go with the rest.

    Raises:
        UsageError: so it is.
    """
    hint = "leave out --pages"
    if pictures > 1:
        raise UsageError(f"{folder}: several pictures in one folder", hint)
    if any(node.kind == "array" and LABELS in node.path.split("/") for node in nodes):
        raise UsageError(f"{folder}: holds labels of all pages", hint)
    if any(folder.glob("OME/*.xml")):
        raise UsageError(f"{folder}: holds OME-XML of all pages", hint)


def select(
    folder: Path, picture: ZarrPicture, levels: Sequence[Any], along: int, kept: range
) -> None:
    """Change the metadata of a copy: shapes, scales, and what viewers show at first.

    Args:
        folder: the copy; its arrays have no chunks yet.
        picture: its only one.
        levels: the arrays as they were.
        along: the axis.
        kept: places of the full size that are left.
    """
    change = _Change(picture, levels, along, kept)
    for place, _, names in os.walk(folder):
        below = Path(place).relative_to(folder).as_posix()
        for name in names:
            if name in (*_FILES, _OLD_COLLECTION):
                file = Path(place, name)
                stored = json.loads(file.read_bytes())
                if change.apply(name, "" if below == "." else below, stored):
                    file.write_text(json.dumps(stored, indent=2), encoding="utf-8")


class _Change:
    def __init__(
        self, picture: ZarrPicture, levels: Sequence[Any], along: int, kept: range
    ) -> None:
        self._along, self._kept = along, kept
        self._axis = (picture.axes or "")[along : along + 1]
        self._scale = picture.scales[0]
        self._lengths: dict[str, int] = {}
        length, before = len(kept), levels[0].shape
        for number, (level, array) in enumerate(zip(picture.levels, levels, strict=True)):
            if number:
                factor = factors_of(picture, number, before, array.shape)[along]
                rounded = math.floor if array.shape[along] * factor <= before[along] else math.ceil
                length, before = max(1, rounded(length / factor)), array.shape
            self._lengths[level] = length

    def apply(self, name: str, path: str, stored: dict[str, Any]) -> bool:
        """Change one document of the node at `path`; returns whether anything changed."""
        if name == _OLD_COLLECTION:
            entries = stored.get("metadata", {})
            changed = [
                self.apply(key.rpartition("/")[2], _join(path, key.rpartition("/")[0]), entry)
                for key, entry in entries.items()
                if key.rpartition("/")[2] in _FILES
            ]
            return any(changed)
        changed = [False]
        if name == "zarr.json":
            collection = (stored.get("consolidated_metadata") or {}).get("metadata") or {}
            changed += [
                self.apply(name, _join(path, key), entry) for key, entry in collection.items()
            ]
        if "shape" in stored and path in self._lengths:
            stored["shape"][self._along] = self._lengths[path]
            changed.append(True)
        attributes = stored.get("attributes") if name == "zarr.json" else stored
        if isinstance(attributes, dict):
            changed.append(self._attributes(attributes.get("ome", attributes)))
        return any(changed)

    def _attributes(self, told: Any) -> bool:
        if not isinstance(told, dict) or "multiscales" not in told:
            return False
        for one in told["multiscales"]:
            steps = [level.get("coordinateTransformations") or [] for level in one["datasets"]]
            start = self._start(steps[0])
            for level in steps:
                self._rescale(level, start)
        defaults = (told.get("omero") or {}).get("rdefs") or {}
        key = f"default{self._axis.upper()}"
        if self._axis and key in defaults:
            defaults[key] = min(defaults[key], len(self._kept) - 1)
        return True

    def _start(self, steps: list[dict[str, Any]]) -> float:
        """Return where the axis begins."""
        moved = next((step for step in steps if "translation" in step), None)
        return moved["translation"][self._along] if moved else 0.0

    def _rescale(self, steps: list[dict[str, Any]], start: float) -> None:
        """Set the distance of the places, and where the first lies."""
        if not steps or self._scale is None:
            return
        unit, first = self._scale[self._along], self._kept[0]
        moved = next((step for step in steps if "translation" in step), None)
        for step in steps:
            if step.get("type") == "scale" and "scale" in step:
                step["scale"][self._along] *= self._kept.step
        if moved:
            within = (moved["translation"][self._along] - start) * self._kept.step
            moved["translation"][self._along] = start + first * unit + within
        elif first:
            origin = [0.0] * len(self._scale)
            origin[self._along] = first * unit
            steps.append({"type": "translation", "translation": origin})


def _join(path: str, below: str) -> str:
    return "/".join(part for part in (path, below) if part)
