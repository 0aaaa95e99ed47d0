"""`weights_manifest.json`: the weights this version knows, and what each was made from."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amsnet_cli.errors import WeightsError

_PACKAGE = Path(__file__).parent.parent
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Weights that the manifest names.

    Attributes:
        name: lower case letters, digits and dashes.
        title: one line for people.
        size: of the file, in bytes.
        sha256: of the file, 64 lower-case hexadecimal digits.
        bundled: whether the file comes with the package.
        sources: addresses it can be downloaded from, tried in turn.
        licence: an SPDX expression.
        supervised: whether clean pictures were seen in training.
        trained_on: what it saw.
        scores: set, protocol and figures.
        limits: what it is not good for.
    """

    name: str
    title: str
    size: int
    sha256: str
    bundled: bool
    sources: tuple[str, ...]
    licence: str
    supervised: bool
    trained_on: str
    scores: tuple[dict[str, Any], ...]
    limits: str

    @property
    def file_name(self) -> str:
        """Name of the file in the package, the store and a mirror."""
        return f"{self.name}.safetensors"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All entries by name, and the name of the default."""

    default: str
    entries: dict[str, Entry]

    def entry(self, name: str) -> Entry:
        """Look an entry up, or raise a `WeightsError` that lists what there is."""
        try:
            return self.entries[name]
        except KeyError:
            known = ", ".join(self.entries)
            raise WeightsError(f"no weights named {name}", f"there are: {known}") from None


def bundled_path(entry: Entry) -> Path:
    """Where the package keeps the file of a bundled entry."""
    return _PACKAGE / "weights" / "bundled" / entry.file_name


def load_manifest() -> Manifest:
    """Read the manifest that `AMSNET_MANIFEST` names, or this version's own.

    Raises:
        WeightsError: it cannot be read, or an entry is malformed.
    """
    own = _PACKAGE / "weights_manifest.json"  # in an installed package
    if not own.exists():  # in a source tree
        own = _PACKAGE.parent / "weights_manifest.json"
    path = Path(os.environ.get("AMSNET_MANIFEST") or own)
    try:
        content = json.loads(path.read_text("utf-8"))
        entries = [_entry(raw) for raw in content["weights"]]
        manifest = Manifest(default=content["default"], entries={e.name: e for e in entries})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a weights manifest ({error})") from error
    if path != own and any(e.bundled for e in entries):
        raise WeightsError(f"{path}: only this program's own manifest has bundled weights")
    return manifest


def _entry(raw: dict[str, Any]) -> Entry:
    entry = Entry(**{**raw, "sources": tuple(raw["sources"]), "scores": tuple(raw["scores"])})
    if not _NAME.fullmatch(entry.name):
        raise ValueError(f"malformed name {entry.name!r}")
    if not _DIGEST.fullmatch(entry.sha256):
        raise ValueError(f"malformed sha256 of {entry.name}")
    if entry.size <= 0:
        raise ValueError(f"malformed size of {entry.name}")
    return entry
