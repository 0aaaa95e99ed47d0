"""Where weights and models lie, and how a name becomes a file."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import platformdirs

from amsnet_cli.errors import UsageError, WeightsError
from amsnet_cli.weights.manifest import (
    SUFFIX,
    Entry,
    bundled_path,
    load_manifest,
    own_manifest,
    sha256_of,
)
from amsnet_cli.weights.records import read_record, record_path

HEADER_LIMIT = 16 << 20
AUTO = "auto"
"""Given as weights: those fitted to each photo's camera; no model can have this name."""
ISO_REACH = 1.5
"""Factor by which a photo's ISO may be off those that a model has learned from."""
PAGE_MARK = b"<!doctype html>\n<!-- amsnet report -->"
"""How the program's own pages begin: others are never deleted or replaced."""
PART_AGE = 3600.0
"""Seconds since its last change after which a `.part` file is taken for abandoned."""

State = Literal["bundled", "pulled", "available", "fitted", "imported", "damaged"]


@dataclass(frozen=True, kw_only=True)
class Holding:
    """Weights or a model that a name stands for.

    Attributes:
        name: what to give to `-w`.
        state: "available" can be pulled; "damaged" cannot be read as a model.
        path: the file, or None where there is none yet.
        size: in bytes, about where it is not known exactly.
        entry: of the manifest; None for what was fitted or imported here.
        header: what the model file says of itself; empty for those of the manifest.
    """

    name: str
    state: State
    path: Path | None
    size: int
    entry: Entry | None = None
    header: dict[str, Any] = field(default_factory=dict)


def weights_dir() -> Path:
    """Folder of pulled weights: they can be fetched again, so it is in the user's cache."""
    if chosen := os.environ.get("AMSNET_WEIGHTS_DIR"):
        return Path(chosen)
    home = os.environ.get("AMSNET_HOME")
    return Path(home) / "weights" if home else platformdirs.user_cache_path("amsnet") / "weights"


def models_dir() -> Path:
    """Folder of fitted models: they cannot be fetched again, so it is in the user's data."""
    home = os.environ.get("AMSNET_HOME")
    return Path(home) / "models" if home else platformdirs.user_data_path("amsnet") / "models"


def entry_path(entry: Entry) -> Path:
    """Where the file of an entry lies, or would."""
    return bundled_path(entry) if entry.bundled else weights_dir() / f"{entry.name}{SUFFIX}"


def model_path(name: str) -> Path:
    """Where a fitted or imported model of this name lies, or would.

    Raises:
        UsageError: a model cannot have this name.
    """
    if not name.isprintable() or name.startswith((".", "-")) or set(name) & set('/\\:*?"<>|'):
        raise UsageError(f"a model cannot be named {name!r}", "give a plain one with --name")
    if not name or name == AUTO or name in load_manifest():
        raise UsageError(f"the name {name!r} is taken", "give another with --name")
    return models_dir() / f"{name}{SUFFIX}"


def fitted_models() -> dict[str, Path]:
    """Fitted and imported models by name, in the order of their names."""
    return {p.stem: p for p in _files(models_dir()) if p.suffix == SUFFIX}


def model_for(camera: str | None, iso: int | None) -> Path | None:
    """Find the fitted model of a camera; damaged models are passed over.

    Args:
        camera: as `photos.exif.camera_of` names it.
        iso: the photo's; a model counts if it has learned from speeds up to `ISO_REACH` off it.

    Returns:
        Of several, the one whose speeds are nearest, in the geometric middle, then the newest;
        one whose speeds are not known, or all if the photo's is not, come last. None if there is
        none.

    Raises:
        WeightsError: the folder of models cannot be read.
    """
    found = []
    for name, path in fitted_models().items():
        try:
            cameras, newest = cameras_of(model_header(path)), -path.stat().st_mtime_ns
        except (WeightsError, OSError):
            continue
        if camera is None or camera not in cameras:
            continue
        off = math.inf
        if iso is not None and cameras[camera]:
            low, high = cameras[camera]
            if not low / ISO_REACH <= iso <= high * ISO_REACH:
                continue
            off = abs(math.log(iso) - (math.log(low) + math.log(high)) / 2)
        found.append((off, newest, name, path))
    return min(found)[-1] if found else None


def inventory() -> list[Holding]:
    """All that can be used or pulled: the manifest's entries, then what is fitted or imported.

    Raises:
        WeightsError: the manifest or a folder of the store cannot be read.
    """
    holdings = []
    here = set(_files(weights_dir()))
    for entry in load_manifest().entries.values():
        path = entry_path(entry)
        there = entry.bundled or path in here
        holdings.append(
            Holding(
                name=entry.name,
                state="bundled" if entry.bundled else "pulled" if there else "available",
                path=path if there else None,
                size=path.stat().st_size if there else entry.file.expected_size,
                entry=entry,
            )
        )
    for name, path in fitted_models().items():
        state: State = "fitted"
        try:
            header = model_header(path)
        except WeightsError:
            header, state = {}, "damaged"
        if "imported_from" in header.get("provenance", {}):
            state = "imported"
        holdings.append(
            Holding(name=name, state=state, path=path, size=path.stat().st_size, header=header)
        )
    return holdings


def find_weights(name: str | None) -> Path:
    """Turn what the user gave as weights into a file that exists.

    Args:
        name: a file (it has a folder or ends in .safetensors), a fitted or imported model or a
            name of the manifest, looked up in this order; None for the default, which comes
            with the program: nothing in the store or the environment can break or replace it.

    Raises:
        UsageError: the name is `AUTO`, which stands for no file.
        WeightsError: there is nothing of that name, or it has not been pulled yet.
    """
    if name == AUTO:
        raise UsageError(f"{AUTO} chooses weights only for: amsnet denoise", "name the weights")
    own = own_manifest()
    if name is None:
        return _entry_file(own.entry(own.default))
    if name.endswith(SUFFIX) or Path(name).name != name:
        path = Path(name)
        if not path.is_file():
            raise WeightsError(f"{path}: no such file", "see: amsnet weights list")
        return path
    fitted = fitted_models()
    if name in fitted:
        return fitted[name]
    manifest = own if name in own else load_manifest()
    if name not in manifest:
        known = ", ".join([*fitted, *manifest.entries])
        raise WeightsError(f"no weights or fitted model named {name}", f"there are: {known}")
    return _entry_file(manifest.entry(name))


def model_header(path: Path) -> dict[str, Any]:
    """Read what a model file says of itself, without loading it: see `amsnet_cli.model`.

    Raises:
        WeightsError: it is not a model of this program, or cut short.
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
            raise ValueError("cut short")
        cameras_of(header)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: damaged, or not an amsnet model", "fit or import it again"
        ) from error
    return header


def cameras_of(header: dict[str, Any]) -> dict[str, list[int]]:
    """Tell which cameras a model has learned from, each with its lowest and highest ISO, if known.

    Raises:
        ValueError: the header says it in another form.
    """
    cameras = header.get("cameras", {})
    if not isinstance(cameras, dict) or not all(map(_are_speeds, cameras.values())):
        raise ValueError("its cameras are not given with a lowest and a highest ISO")
    return cameras


def _are_speeds(speeds: object) -> bool:
    if not isinstance(speeds, list) or not all(type(iso) is int for iso in speeds):
        return False
    return not speeds or (len(speeds) == 2 and 0 < speeds[0] <= speeds[1] < 1 << 32)


def verify(entry: Entry) -> None:
    """Compare the file of an entry with the manifest, or with what was recorded when it came.

    Raises:
        WeightsError: it is missing, or not what it was.
    """
    path = entry_path(entry)
    again = "install amsnet again" if entry.bundled else f"run: amsnet weights pull {entry.name}"
    if not _is_there(path):
        raise WeightsError(f"weights {entry.name} are not here", again)
    if entry.file.pinned and not entry.converted:
        try:
            wrong = entry.file.difference(path)
        except OSError as error:
            wrong = f"cannot be read ({error.strerror})"
        if wrong:
            raise WeightsError(f"{path}: damaged: {wrong}", again)
    else:
        _compare_with_record(path, again)


def verify_model(path: Path) -> str:
    """Check a fitted or imported model.

    Returns:
        What could be checked: an imported one's digest, a fitted one's structure.

    Raises:
        WeightsError: it is damaged.
    """
    model_header(path)
    if not record_path(path).exists():
        return "readable (no digest is recorded of fitted models)"
    _compare_with_record(path, "import it again")
    return "ok"


def page_path(model: Path) -> Path:
    """Where the page that a fit ends with lies, beside its model."""
    return model.with_suffix(".html")


def remove(path: Path) -> None:
    """Delete a pulled, imported or fitted file, its record, and a fit's page."""
    path.unlink()
    record_path(path).unlink(missing_ok=True)
    page = page_path(path)
    if path.parent == models_dir() and _is_page(page):
        page.unlink()


def leftovers() -> list[Path]:
    """Find what nothing will use any more.

    Parts that broke off an hour ago or more, records without their file, and pulled weights that
    no manifest names.
    """
    entries = load_manifest().entries.values()
    wanted = {entry_path(entry) for entry in entries}
    found = []
    for path in [*_files(weights_dir()), *_files(models_dir())]:
        part = path.name.startswith(".") and path.name.endswith((".part", ".part.json"))
        record = path.suffix == ".json" and not path.name.startswith(".")
        if part:
            gone = time.time() - path.stat().st_mtime > PART_AGE
        elif record:
            gone = _is_record(path) and not path.with_suffix(SUFFIX).exists()
        else:
            # Others may keep files in a folder of weights: only what was pulled goes.
            pulled = path.parent == weights_dir() and path.suffix == SUFFIX
            gone = pulled and path not in wanted and _is_record(record_path(path))
        if gone:
            found.append(path)
    return found


def _entry_file(entry: Entry) -> Path:
    path = entry_path(entry)
    if not _is_there(path):
        if entry.bundled:
            raise WeightsError(f"{path}: missing from the installation", "install amsnet again")
        raise WeightsError(
            f"weights {entry.name} are not here yet", f"run: amsnet weights pull {entry.name}"
        )
    return path


def _compare_with_record(path: Path, again: str) -> None:
    record = read_record(path)
    if record is None:
        raise WeightsError(f"{path}: nothing is recorded of where it came from", again)
    found = sha256_of(path)
    if found != record.sha256:
        raise WeightsError(f"{path}: damaged: expected sha256 {record.sha256}, got {found}", again)


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be reached ({error.strerror})", "check the permissions of its folder"
        ) from error


def _is_page(path: Path) -> bool:
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


def _files(folder: Path) -> Iterator[Path]:
    """Files of a folder, sorted; none if it does not exist."""
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise WeightsError(
            f"{folder}: cannot be read ({error.strerror})", "mend it, or set AMSNET_HOME elsewhere"
        ) from error
    yield from (path for path in paths if path.is_file())
