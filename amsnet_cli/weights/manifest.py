"""Read `weights_manifest.json`, the list of published weights.

`weights_manifest.schema.json` describes the format; `docs/weights.md` explains it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amsnet_cli.errors import WeightsError

SUFFIX = ".safetensors"

_PACKAGE = Path(__file__).parent.parent
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]*")
_DIGESTS = {"sha256": re.compile(r"[0-9a-f]{64}"), "git_blob_sha1": re.compile(r"[0-9a-f]{40}")}
_INFERENCE = {"passes", "ensemble", "n_masks", "stride", "repeats", "refine", "refine_repeats"}
_FIELD_TYPES: dict[str, type] = {
    "name": str, "aliases": list, "title": str, "purpose": str, "network": str, "fill": str,
    "mask_channel": bool, "inference": dict, "file": dict, "bundled": bool, "sources": list,
    "licence": str, "supervised": bool, "trained_on": str, "scores": list, "limits": str,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file as it was published.

    Attributes:
        name: exactly as published.
        size: in bytes; None if not published.
        size_about: approximate size in bytes, if `size` is None.
        sha256: 64 lower-case hexadecimal digits, or None.
        git_blob_sha1: git's hash of the content, 40 such digits, or None.
    """

    name: str
    size: int | None = None
    size_about: int | None = None
    sha256: str | None = None
    git_blob_sha1: str | None = None

    def __post_init__(self) -> None:
        if not _FILE_NAME.fullmatch(self.name):
            raise ValueError(f"malformed file name {self.name!r}")
        sizes = [s for s in (self.size, self.size_about) if s is not None]
        if len(sizes) != 1 or type(sizes[0]) is not int or sizes[0] <= 0:
            raise ValueError(f"{self.name} needs either a size or a size_about")
        if self.sha256 and self.git_blob_sha1:
            raise ValueError(f"{self.name} has two digests")
        for kind, form in _DIGESTS.items():
            digest = getattr(self, kind)
            if digest is not None and not form.fullmatch(digest):
                raise ValueError(f"malformed {kind} of {self.name}")

    @property
    def pinned(self) -> bool:
        """Whether a digest is published."""
        return bool(self.sha256 or self.git_blob_sha1)

    @property
    def expected_size(self) -> int:
        """In bytes, exact or approximate."""
        size = self.size or self.size_about
        assert size is not None
        return size

    @property
    def size_limit(self) -> int:
        """Largest download in bytes: the exact size, or twice the approximate one."""
        return self.size or 2 * self.expected_size

    def difference(self, path: Path) -> str:
        """Compare a file on disk with the published one.

        Returns:
            What was expected and what was found; empty if nothing differs.
        """
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"expected {self.size} bytes, got {size}"
        if size > self.size_limit:
            return f"expected about {self.size_about} bytes, got {size}"
        if self.sha256 and (found := sha256_of(path)) != self.sha256:
            return f"expected sha256 {self.sha256}, got {found}"
        if self.git_blob_sha1 and (found := git_blob_sha1_of(path)) != self.git_blob_sha1:
            return f"expected git blob sha1 {self.git_blob_sha1}, got {found}"
        return ""


@dataclass(frozen=True, kw_only=True)
class ManifestEntry:
    """Weights that the manifest lists.

    Attributes:
        name: lower case letters, digits and dashes.
        aliases: other names of the same form.
        title: one line for people.
        purpose: for which photos.
        network: "compact", "conditioned" where it is told the noise, "mosaic" for RAW files, or one
            of the paper's.
        fill: what replaces masked pixels.
        mask_channel: whether the network gets the mask as a channel.
        inference: how to run it: fields of `amsnet_cli.model.Inference`.
        file: as published; if it is not safetensors, pulling converts it.
        bundled: whether the file comes with the package.
        sources: addresses to download from, tried in turn: of the file, or of a Google Drive
            folder that has a file of this exact name.
        licence: an SPDX expression, or NOASSERTION if the publisher names none.
        supervised: whether it was trained on clean images.
        trained_on: the training data.
        scores: test set, protocol and results.
        limits: where they are weak.
    """

    name: str
    aliases: tuple[str, ...]
    title: str
    purpose: str
    network: str
    fill: str
    mask_channel: bool
    inference: dict[str, Any]
    file: PublishedFile
    bundled: bool
    sources: tuple[str, ...]
    licence: str
    supervised: bool
    trained_on: str
    scores: tuple[dict[str, Any], ...]
    limits: str

    @property
    def converted(self) -> bool:
        """Whether pulling converts the published file to a model file."""
        return not self.file.name.endswith(SUFFIX)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All entries by name, and the name of the default."""

    default: str
    entries: dict[str, ManifestEntry]

    def __contains__(self, name: str) -> bool:
        return name in self._names()

    def entry(self, name: str) -> ManifestEntry:
        """Look an entry up by name or alias.

        Raises:
            WeightsError: there is none; the message lists the existing ones.
        """
        try:
            return self._names()[name]
        except KeyError:
            known = ", ".join(self.entries)
            raise WeightsError(f"no weights named {name}", f"there are: {known}") from None

    def _names(self) -> dict[str, ManifestEntry]:
        return {n: e for e in self.entries.values() for n in (e.name, *e.aliases)}


def bundled_path(entry: ManifestEntry) -> Path:
    """Path of a bundled entry's file in the package."""
    return _PACKAGE / "weights" / "bundled" / entry.file.name


def own_manifest() -> Manifest:
    """Read the manifest that comes with this version.

    Raises:
        WeightsError: it cannot be read, or an entry is malformed.
    """
    path = _PACKAGE / "weights_manifest.json"  # in an installed package
    if not path.exists():  # in a source tree
        path = _PACKAGE.parent / "weights_manifest.json"
    return _read_manifest(path)


def load_manifest() -> Manifest:
    """Read this version's manifest and the user's own, the file that `AMSNET_MANIFEST` names.

    The user's manifest can only add entries. It cannot change the default or bundled weights.

    Raises:
        WeightsError: one cannot be read, an entry is malformed, or a name is taken.
    """
    own = own_manifest()
    if not (more := os.environ.get("AMSNET_MANIFEST")):
        return own
    added = _read_manifest(Path(more))
    for entry in added.entries.values():
        if entry.bundled:
            raise WeightsError(f"{more}: only amsnet's own manifest can have bundled weights")
        if taken := [n for n in (entry.name, *entry.aliases) if n in own]:
            raise WeightsError(f"{more}: the name {taken[0]} is taken", "choose another")
    return Manifest(default=own.default, entries={**own.entries, **added.entries})


def _read_manifest(path: Path) -> Manifest:
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["schema"] != 2:
            raise ValueError(f"schema {content['schema']}, this version reads 2")
        entries = [_parse_entry(raw) for raw in content["weights"]]
        names = [n for e in entries for n in (e.name, *e.aliases)]
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(f"several weights named {min(twice)}")
        return Manifest(default=content.get("default", ""), entries={e.name: e for e in entries})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise WeightsError(f"{path}: not a weights manifest ({reason})") from error


def _parse_entry(raw: dict[str, Any]) -> ManifestEntry:
    for key, expected in _FIELD_TYPES.items():
        if not isinstance(raw[key], expected):
            raise ValueError(f"{key} of {raw['name']!r} is not a {expected.__name__}")
    lists = {key: tuple(raw[key]) for key in ("aliases", "sources", "scores")}
    entry = ManifestEntry(**{**raw, **lists, "file": PublishedFile(**raw["file"])})
    for name in (entry.name, *entry.aliases):
        if not _NAME.fullmatch(name):
            raise ValueError(f"malformed name {name!r}")
    if extra := entry.inference.keys() - _INFERENCE:
        raise ValueError(f"unknown {min(extra)} in the inference of {entry.name}")
    if entry.converted and (entry.fill != "zeros" or entry.mask_channel):
        raise ValueError(f"{entry.name}: a checkpoint runs with zeros and without a mask channel")
    if entry.bundled and (entry.converted or not entry.file.sha256):
        raise ValueError(f"bundled {entry.name} is not a safetensors file with a sha256")
    return entry


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def git_blob_sha1_of(path: Path) -> str:
    """Git's hash of a file's content: the SHA-1 of "blob SIZE", a zero byte and the data."""
    with path.open("rb") as file:
        digest = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
