"""Where weights and fitted models lie, and how a name becomes a file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

from amsnet_cli.errors import WeightsError
from amsnet_cli.weights.manifest import Entry, bundled_path, load_manifest

SUFFIX = ".safetensors"


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
    return bundled_path(entry) if entry.bundled else weights_dir() / entry.file_name


def fitted_models() -> dict[str, Path]:
    """Fitted models by name, in the order of their names."""
    return {path.stem: path for path in sorted(models_dir().glob(f"*{SUFFIX}"))}


def find_weights(name: str | None) -> Path:
    """Turn what the user gave as weights into a file that exists.

    Args:
        name: a file (it has a folder or ends in .safetensors), a fitted model or a name of the
            manifest, looked up in this order; None for the default.

    Raises:
        WeightsError: there is nothing of that name, or it has not been pulled yet.
    """
    if name and (name.endswith(SUFFIX) or Path(name).name != name):
        path = Path(name)
        if not path.is_file():
            raise WeightsError(f"{path}: no such file", "see: amsnet weights list")
        return path
    fitted = fitted_models()
    if name in fitted:
        return fitted[name]
    manifest = load_manifest()
    if name is not None and name not in manifest.entries:
        known = ", ".join([*fitted, *manifest.entries])
        raise WeightsError(f"no weights or fitted model named {name}", f"there are: {known}")
    entry = manifest.entry(name or manifest.default)
    path = entry_path(entry)
    if not path.is_file():
        if entry.bundled:
            raise WeightsError(f"{path}: missing from the installation", "install amsnet again")
        raise WeightsError(
            f"weights {entry.name} are not here yet", f"run: amsnet weights pull {entry.name}"
        )
    return path


def sha256_of(path: Path) -> str:
    """Hash a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verify(entry: Entry) -> None:
    """Compare the file of an entry with the manifest.

    Raises:
        WeightsError: it is missing, or not what the manifest says.
    """
    path = entry_path(entry)
    again = "install amsnet again" if entry.bundled else f"run: amsnet weights pull {entry.name}"
    if not path.is_file():
        raise WeightsError(f"weights {entry.name} are not here", again)
    found = sha256_of(path)
    if found != entry.sha256:
        raise WeightsError(f"{path}: damaged: expected sha256 {entry.sha256}, got {found}", again)
