"""Folders of weights and models, and the file of each name."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from amsnet_cli.errors import UsageError, WeightsError
from amsnet_cli.weights.header import cameras_of, is_for_mosaics, read_header
from amsnet_cli.weights.manifest import (
    SUFFIX,
    ManifestEntry,
    bundled_path,
    load_manifest,
    own_manifest,
)

MOSAIC_WEIGHTS = "raw"
"""Name of the default weights for mosaics of RAW files."""
AUTO = "auto"
"""The name that selects a fitted model by each photo's camera; it is reserved."""
ISO_REACH = 1.5
"""A model is used for photos up to this factor outside the ISO range it was fitted to."""
PAGE_MARK = b"<!doctype html>\n<!-- amsnet report -->"
"""First bytes of every HTML report; only files that begin with them are replaced or deleted."""


def weights_dir() -> Path:
    """Folder of pulled weights: in the user's cache, as they can be downloaded again."""
    if chosen := os.environ.get("AMSNET_WEIGHTS_DIR"):
        return Path(chosen)
    home = os.environ.get("AMSNET_HOME")
    return Path(home) / "weights" if home else platformdirs.user_cache_path("amsnet") / "weights"


def models_dir() -> Path:
    """Folder of fitted and imported models: in the user's data, as they are unique."""
    home = os.environ.get("AMSNET_HOME")
    return Path(home) / "models" if home else platformdirs.user_data_path("amsnet") / "models"


def entry_path(entry: ManifestEntry) -> Path:
    """Path of an entry's file, whether it exists or not."""
    return bundled_path(entry) if entry.bundled else weights_dir() / f"{entry.name}{SUFFIX}"


def model_path(name: str) -> Path:
    """Path of the fitted or imported model of this name, whether it exists or not.

    Raises:
        UsageError: a model cannot have this name.
    """
    if not name.isprintable() or name.startswith((".", "-")) or set(name) & set('/\\:*?"<>|'):
        raise UsageError(f"a model cannot be named {name!r}", "give a plain name with --name")
    if not name or name == AUTO or name in load_manifest():
        raise UsageError(f"the name {name!r} is taken", "give another with --name")
    return models_dir() / f"{name}{SUFFIX}"


def page_path(model: Path) -> Path:
    """Path of the HTML report that a fit writes beside its model."""
    return model.with_suffix(".html")


def fitted_models() -> dict[str, Path]:
    """Fitted and imported models by name, sorted."""
    return {p.stem: p for p in files_in(models_dir()) if p.suffix == SUFFIX}


def find_weights(name: str | None) -> Path:
    """Return the file of a name or path of weights.

    Args:
        name: a path (it contains a folder or ends in .safetensors), the name of a fitted or
            imported model, or a name from the manifest, tried in this order. None is the default,
            which is part of the package and which no setting or file can replace.

    Raises:
        UsageError: the name is `AUTO`, which has no file.
        WeightsError: there are no weights of that name, or they have not been pulled yet.
    """
    if name == AUTO:
        raise UsageError(f"{AUTO} selects weights only in: amsnet denoise", "name the weights")
    own = own_manifest()
    if name is None:
        return _existing(own.entry(own.default))
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
    return _existing(manifest.entry(name))


def model_for(camera: str | None, iso: int | None, *, mosaics: bool = False) -> Path | None:
    """Find the fitted model for a photo's camera; unreadable models are skipped.

    Args:
        camera: its name, as by `photos.exif.camera_of`.
        iso: of the photo. A model matches up to a factor of `ISO_REACH` outside its range.
        mosaics: whether the model is to be for mosaics, or for developed photos.

    Returns:
        The match whose ISO range has the nearest geometric mean; of equal ones, the newest. Models
        without an ISO range come last. If `iso` is None, the newest match. None without a match.

    Raises:
        WeightsError: the folder of models cannot be read.
    """
    found = []
    for name, path in fitted_models().items():
        try:
            header, newest = read_header(path), -path.stat().st_mtime_ns
        except (WeightsError, OSError):
            continue
        cameras = cameras_of(header)
        if camera is None or camera not in cameras or mosaics != is_for_mosaics(header):
            continue
        distance = math.inf
        if iso is not None and cameras[camera]:
            low, high = cameras[camera]
            if not low / ISO_REACH <= iso <= high * ISO_REACH:
                continue
            distance = abs(math.log(iso) - (math.log(low) + math.log(high)) / 2)
        found.append((distance, newest, name, path))
    return min(found)[-1] if found else None


def file_exists(path: Path) -> bool:
    """Whether a file exists.

    Raises:
        WeightsError: its folder cannot be read.
    """
    try:
        return path.is_file()
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be reached ({error.strerror})", "check the permissions of its folder"
        ) from error


def files_in(folder: Path) -> Iterator[Path]:
    """Files of a folder, sorted; none if it does not exist.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise WeightsError(
            f"{folder}: cannot be read ({error.strerror})",
            "repair it, or set AMSNET_HOME to another folder",
        ) from error
    yield from (path for path in paths if path.is_file())


def _existing(entry: ManifestEntry) -> Path:
    path = entry_path(entry)
    if not file_exists(path):
        if entry.bundled:
            raise WeightsError(f"{path}: missing from the installation", "install amsnet again")
        raise WeightsError(
            f"weights {entry.name} are not here yet", f"run: amsnet weights pull {entry.name}"
        )
    return path
