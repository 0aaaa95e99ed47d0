"""Read the header of a model file without loading its tensors or torch.

A model file is safetensors. Its metadata have one JSON object under the key `amsnet`, whose fields
`amsnet_cli.model.ModelConfig` documents.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amsnet_cli.errors import WeightsError

FORMAT = 2
"""Version of the header; a model file of another version is refused."""
HEADER_LIMIT = 16 << 20
"""Largest header in bytes; a larger one is refused unread."""


def read_header(path: Path) -> dict[str, Any]:
    """Read a model file's header, and check that the file is complete.

    Raises:
        WeightsError: it is not a model of this program, is truncated, or has another format.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > HEADER_LIMIT:
                raise ValueError("no header")
            tensors = json.loads(file.read(length))
        header = json.loads(tensors.pop("__metadata__")["amsnet"])
        end = max(tensor["data_offsets"][1] for tensor in tensors.values())
        if path.stat().st_size != 8 + length + end or not isinstance(header, dict):
            raise ValueError("truncated")
        cameras_of(header)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: damaged, or not an amsnet model", "fit or import it again"
        ) from error
    check_format(header, path)
    return header


def check_format(header: dict[str, Any], path: Path) -> None:
    """Refuse a header of another format.

    Raises:
        WeightsError: `header["format"]` is not `FORMAT`; the hint says whether to fit again or
            to upgrade.
    """
    found = header.get("format")
    if found == FORMAT:
        return
    older = isinstance(found, int) and found < FORMAT
    raise WeightsError(
        f"{path}: model format {found}, this version of amsnet reads {FORMAT}",
        "fit or import it again" if older else "upgrade amsnet",
    )


def cameras_of(header: dict[str, Any]) -> dict[str, list[int]]:
    """Return the cameras a model was fitted to, each with its lowest and highest ISO, if known.

    Raises:
        ValueError: the header's `cameras` are malformed.
    """
    cameras = header.get("cameras", {})
    if not isinstance(cameras, dict) or not all(map(_is_iso_range, cameras.values())):
        raise ValueError("its cameras are not given with a lowest and a highest ISO")
    return cameras


def camera_and_speeds(camera: str, speeds: Sequence[int]) -> str:
    """Describe what a model is fitted to: a camera, and its range of ISO speeds if known."""
    return f"{camera}, ISO {' to '.join(map(str, dict.fromkeys(speeds)))}" if speeds else camera


def is_for_mosaics(header: dict[str, Any]) -> bool:
    """Whether a model is for mosaics of RAW files, by its header."""
    return header.get("mosaic") is True


def _is_iso_range(value: object) -> bool:
    if not isinstance(value, list) or not all(type(iso) is int for iso in value):
        return False
    return not value or (len(value) == 2 and 0 < value[0] <= value[1] < 1 << 32)
