"""List available weights and models, and delete them or stale files."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from amsnet_cli.errors import WeightsError
from amsnet_cli.weights.header import read_header
from amsnet_cli.weights.manifest import SUFFIX, ManifestEntry, load_manifest
from amsnet_cli.weights.records import read_record, record_path
from amsnet_cli.weights.store import (
    PAGE_MARK,
    entry_path,
    files_in,
    fitted_models,
    models_dir,
    page_path,
    weights_dir,
)

PART_AGE = 3600.0
"""Age in seconds from which an unchanged `.part` file counts as abandoned."""

State = Literal["bundled", "pulled", "available", "fitted", "imported", "unreadable"]


@dataclass(frozen=True, kw_only=True)
class InventoryItem:
    """Weights or a model that can be named.

    Attributes:
        name: the name for `-w`.
        state: "available" can be pulled; "unreadable" is damaged or of another format.
        path: the file, or None if it has not been pulled.
        size: in bytes; approximate if `path` is None and none is published.
        entry: in the manifest; None for fitted and imported models.
        header: of the model file; empty for entries of the manifest.
    """

    name: str
    state: State
    path: Path | None
    size: int
    entry: ManifestEntry | None = None
    header: dict[str, Any] = field(default_factory=dict)


def inventory() -> list[InventoryItem]:
    """List all weights and models: entries of the manifest, then fitted and imported models.

    Raises:
        WeightsError: the manifest or a folder of the store cannot be read.
    """
    items = []
    pulled = set(files_in(weights_dir()))
    for entry in load_manifest().entries.values():
        path = entry_path(entry)
        exists = entry.bundled or path in pulled
        items.append(
            InventoryItem(
                name=entry.name,
                state="bundled" if entry.bundled else "pulled" if exists else "available",
                path=path if exists else None,
                size=path.stat().st_size if exists else entry.file.expected_size,
                entry=entry,
            )
        )
    for name, path in fitted_models().items():
        state: State = "fitted"
        try:
            header = read_header(path)
        except WeightsError:
            header, state = {}, "unreadable"
        if "imported_from" in header.get("provenance", {}):
            state = "imported"
        size = path.stat().st_size
        items.append(InventoryItem(name=name, state=state, path=path, size=size, header=header))
    return items


def remove(path: Path) -> None:
    """Delete a pulled, imported or fitted file, its record, and a fit's report.

    Raises:
        OSError: it cannot be deleted.
    """
    path.unlink()
    record_path(path).unlink(missing_ok=True)
    page = page_path(path)
    if path.parent == models_dir() and _is_report(page):
        page.unlink()


def stale_files() -> list[Path]:
    """List stale files: abandoned downloads, orphaned records, and weights no manifest lists."""
    listed = {entry_path(entry) for entry in load_manifest().entries.values()}
    return [
        path
        for path in [*files_in(weights_dir()), *files_in(models_dir())]
        if _is_stale(path, listed)
    ]


def _is_stale(path: Path, listed: set[Path]) -> bool:
    if path.name.startswith("."):
        is_part = path.name.endswith((".part", ".part.json"))
        return is_part and time.time() - path.stat().st_mtime > PART_AGE
    if path.suffix == ".json":
        return _is_record(path) and not path.with_suffix(SUFFIX).exists()
    # The folder may contain other files; only pulled ones can be stale.
    is_weights = path.parent == weights_dir() and path.suffix == SUFFIX
    return is_weights and path not in listed and _is_record(record_path(path))


def _is_report(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(PAGE_MARK)) == PAGE_MARK
    except OSError:
        return False


def _is_record(path: Path) -> bool:
    try:
        return read_record(path.with_suffix(SUFFIX)) is not None
    except WeightsError:
        return False
