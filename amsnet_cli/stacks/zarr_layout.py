"""What lies in a Zarr folder: which arrays are pictures, by the metadata of OME-Zarr.

OME-Zarr 0.4 lies in Zarr 2 and 0.5 in Zarr 3 (https://ngff.openmicroscopy.org). A group with
`multiscales` is a picture with its smaller copies, also where plates and collections hold many.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.suffix import ZARR_METADATA

LABELS = "labels"
"""Group below a picture that holds masks of it."""
_NEW = "zarr.json"
_OLD_AXES = "tczyx"
"""Of versions before axes were named."""


@dataclass(frozen=True, kw_only=True)
class ZarrNode:
    """A group or an array.

    Attributes:
        path: below the folder, with slashes; empty for the folder itself.
        kind: what it is.
        attributes: of it.
        dimensions: names of an array's dimensions, "" for those without; None where none are named.
    """

    path: str
    kind: Literal["group", "array"]
    attributes: dict[str, Any]
    dimensions: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ZarrPicture:
    """A picture.

    Attributes:
        levels: paths of its arrays, full size first, then smaller and smaller.
        axes: a letter for each dimension, such as "tczyx"; None where none are known.
        scales: for each level, the size of a pixel along each axis; None where it is not told.
    """

    levels: tuple[str, ...]
    axes: str | None
    scales: tuple[tuple[float, ...] | None, ...]


def list_nodes(folder: Path) -> list[ZarrNode]:
    """List the groups and arrays of a Zarr folder, sorted by the parts of their paths.

    Raises:
        PhotoError: the metadata cannot be read.
    """
    return list(_walk(folder, ""))


def _walk(folder: Path, path: str) -> Iterator[ZarrNode]:
    place = folder / path
    try:
        node = _node(place, path)
        below = sorted(entry.name for entry in os.scandir(place) if entry.is_dir())
    except OSError as error:
        raise PhotoError(f"{place}: cannot be read ({error.strerror})") from error
    if node is not None:
        yield node
    if node is None or node.kind == "group":
        for name in below:
            yield from _walk(folder, f"{path}/{name}" if path else name)


def _node(place: Path, path: str) -> ZarrNode | None:
    found = [name for name in ZARR_METADATA if (place / name).is_file()]
    if len(found) > 1:
        raise PhotoError(f"{place}: Zarr 2 and Zarr 3 in one", "keep one of both")
    if not found:
        return None
    stored = _object(place / found[0])
    if found[0] == _NEW:
        attributes, kind = stored.get("attributes") or {}, stored.get("node_type")
        names: Any = stored.get("dimension_names")
    else:
        file = place / ".zattrs"
        attributes = _object(file) if file.is_file() else {}
        kind = "array" if found[0] == ".zarray" else "group"
        names = attributes.get("_ARRAY_DIMENSIONS")
    if kind not in ("array", "group") or not isinstance(attributes, dict):
        raise _damaged(place / found[0], "it is neither a group nor an array")
    dimensions = tuple(str(name or "") for name in names) if isinstance(names, list) else None
    return ZarrNode(
        path=path, kind="array" if kind == "array" else "group", attributes=attributes,
        dimensions=dimensions,
    )  # fmt: skip


def _object(file: Path) -> dict[str, Any]:
    try:
        stored = json.loads(file.read_bytes())
    except ValueError as error:
        raise _damaged(file, str(error)) from error
    if not isinstance(stored, dict):
        raise _damaged(file, "no object")
    return stored


def _damaged(file: Path, reason: str) -> PhotoError:
    return PhotoError(f"{file}: damaged ({reason})", "copy it again from its source")


def find_pictures(folder: Path, nodes: list[ZarrNode]) -> list[ZarrPicture]:
    """Find the pictures among the nodes of a folder; masks of them are none.

    Raises:
        PhotoError: there is none, or what is told of one is not so.
    """
    arrays = {node.path: node for node in nodes if node.kind == "array"}
    pictures = []
    for node in nodes:
        told = node.attributes.get("ome", node.attributes)
        if node.kind == "array" or not isinstance(told, dict) or _is_mask(node.path, told):
            continue
        try:
            pictures += [_picture(node.path, one, arrays) for one in told.get("multiscales") or ()]
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(folder / node.path, f"its multiscales: {error}") from error
    if pictures:
        return pictures
    root = arrays.get("")
    if root is None:
        names = ", ".join(list(arrays)[:3])
        hint = f"name one of its arrays, such as {names}" if names else "copy it again"
        raise PhotoError(f"{folder}: no picture of OME-Zarr in it", hint)
    return [ZarrPicture(levels=("",), axes=_letters(root.dimensions), scales=(None,))]


def _is_mask(path: str, told: dict[str, Any]) -> bool:
    return "image-label" in told or LABELS in path.split("/")


def _picture(group: str, told: dict[str, Any], arrays: dict[str, ZarrNode]) -> ZarrPicture:
    levels, scales = [], []
    for level in told["datasets"]:
        path = "/".join(part for part in (group, str(level["path"])) if part)
        if path not in arrays:
            raise ValueError(f"no array {path}")
        levels.append(path)
        scales.append(_scale(level))
    if not levels:
        raise ValueError("no array")
    axes = told.get("axes")
    names = None if axes is None else [a["name"] if isinstance(a, dict) else a for a in axes]
    letters = _OLD_AXES if names is None else _letters(names)
    if any(scale and len(scale) != len(letters or scale) for scale in scales):
        raise ValueError("scales of other axes")
    return ZarrPicture(levels=tuple(levels), axes=letters, scales=tuple(scales))


def _scale(level: dict[str, Any]) -> tuple[float, ...] | None:
    for step in level.get("coordinateTransformations") or ():
        if step.get("type") == "scale" and "scale" in step:
            return tuple(float(number) for number in step["scale"])
    return None


def _letters(names: Any) -> str | None:
    """Return a letter for each name: the first, "c" for whatever begins with it."""
    if names is None or not all(names):
        return None
    return "".join(str(name)[0].lower() for name in names)
