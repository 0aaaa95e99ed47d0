"""Results that `amsnet denoise --json` printed, one photo a line."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.read import read_photo
from amsnet_cli.report.comparison import Comparison, compare
from amsnet_cli.report.html import ReportEntry


def read_results(files: Sequence[Path]) -> list[ReportEntry]:
    """Return the photos in the order in which they are first named; the last word on each counts.

    Of a photo that was denoised before and skipped since, the first is kept. Comparisons have no
    pictures.

    Raises:
        PhotoError: a file cannot be read, holds other lines, or none on a photo.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in files:
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise PhotoError(f"{path}: cannot be read ({error.strerror})", "check it") from error
        for number, line in enumerate(lines, 1):
            result = _parse(line, f"{path}, line {number}")
            if result["status"] == "done" or (
                result["status"] in ("failed", "skipped", "not_run")
                and not (result["status"] == "skipped" and result["output"] in found)
            ):
                found[result["output"]] = result
    if not found:
        raise PhotoError(f"{files[0]}: no photo in it", "give what amsnet denoise --json printed")
    return [_entry(result) for result in found.values()]


def compared(entry: ReportEntry) -> ReportEntry:
    """Add pictures to an entry.

    Raises:
        PhotoError: the photo or its result cannot be read, or they differ in size.
    """
    assert entry.comparison
    noisy, denoised = read_photo(entry.source), read_photo(entry.target)
    noise = entry.comparison.noise
    known = None if any(map(math.isnan, noise)) else noise
    try:
        return replace(entry, comparison=compare(noisy, denoised, noise=known))
    except PhotoError as error:
        raise PhotoError(f"{entry.source} and {entry.target}: {error}") from error


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        result = json.loads(line)
        if isinstance(result, dict) and isinstance(result["input"], str):
            status, output = result["status"], result["output"]
            if isinstance(status, str) and (isinstance(output, str) or status == "passed_over"):
                return result
    except (ValueError, KeyError):
        pass
    raise PhotoError(f"{where}: not a result", "give what amsnet denoise --json printed")


def _entry(result: dict[str, Any]) -> ReportEntry:
    width, height, comparison = result.get("width"), result.get("height"), None
    if result["status"] == "done" and isinstance(width, int) and isinstance(height, int):
        before, after = (_number(result.get(f"noise_{when}")) for when in ("before", "after"))
        comparison = Comparison(size=(width, height), noise=(before, after))
    seconds = _number(result.get("seconds"))
    return ReportEntry(
        source=Path(result["input"]), target=Path(result["output"]), comparison=comparison,
        error=str(result.get("error") or result["status"].replace("_", " ")),
        seconds=None if math.isnan(seconds) else seconds, weights=str(result.get("weights") or ""),
    )  # fmt: skip


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
