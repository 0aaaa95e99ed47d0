"""Hash files again and compare them with the manifest, or with their record."""

from __future__ import annotations

from pathlib import Path

from amsnet_cli.errors import WeightsError
from amsnet_cli.weights.header import read_header
from amsnet_cli.weights.manifest import ManifestEntry, sha256_of
from amsnet_cli.weights.records import read_record, record_path
from amsnet_cli.weights.store import entry_path, file_exists


def verify(entry: ManifestEntry) -> None:
    """Compare an entry's file with its published digest, or with the one recorded by the pull.

    Raises:
        WeightsError: it is missing or damaged; the hint says how to fix it.
    """
    path = entry_path(entry)
    fix = "install amsnet again" if entry.bundled else f"run: amsnet weights pull {entry.name}"
    if not file_exists(path):
        raise WeightsError(f"weights {entry.name} are not here", fix)
    if entry.file.pinned and not entry.converted:
        try:
            wrong = entry.file.difference(path)
        except OSError as error:
            wrong = f"cannot be read ({error.strerror})"
        if wrong:
            raise WeightsError(f"{path}: damaged: {wrong}", fix)
    else:
        _compare_with_record(path, fix)


def verify_model(path: Path) -> str:
    """Check a fitted or imported model.

    Returns:
        The result: "ok" if the digest matches. Fitted models have no digest, only their header is
        read.

    Raises:
        WeightsError: it is damaged, or of another format.
    """
    read_header(path)
    if not record_path(path).exists():
        return "readable (fitted models have no recorded digest)"
    _compare_with_record(path, "import it again")
    return "ok"


def _compare_with_record(path: Path, fix: str) -> None:
    record = read_record(path)
    if record is None:
        raise WeightsError(f"{path}: its record is missing", fix)
    found = sha256_of(path)
    if found != record.sha256:
        raise WeightsError(f"{path}: damaged: expected sha256 {record.sha256}, got {found}", fix)
