"""Fetch weights: checked while they stream, moved into place whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from amsnet_cli.errors import OutputError, WeightsError
from amsnet_cli.weights.manifest import Entry
from amsnet_cli.weights.store import entry_path

TIMEOUT = 30.0
"""Seconds without a byte after which a source is given up."""
BLOCK = 1 << 18


def pull(entry: Entry, progress: Callable[[int, int], None] = lambda done, size: None) -> Path:
    """Download the weights of an entry into the store, replacing what is there.

    `AMSNET_MIRROR`, an address to which the file's name is added, is tried first; then the
    entry's sources in turn. Proxies and certificates come from the usual environment variables.

    Args:
        entry: not a bundled one.
        progress: called with bytes done and bytes in all.

    Returns:
        Where the file is now; it has the size and sha256 of the manifest.

    Raises:
        WeightsError: offline, or no source gives the file that the manifest describes. Nothing
            is left behind, and a file that was there before is untouched.
        OutputError: the store cannot be written.
    """
    if os.environ.get("AMSNET_OFFLINE", "0") not in ("", "0"):
        raise WeightsError(
            f"cannot pull {entry.name} while AMSNET_OFFLINE is set", "unset it and try again"
        )
    sources = list(entry.sources)
    if mirror := os.environ.get("AMSNET_MIRROR"):
        sources.insert(0, f"{mirror.rstrip('/')}/{entry.file_name}")
    if not sources:
        raise WeightsError(f"weights {entry.name} have no source", "set AMSNET_MIRROR to one")
    target = entry_path(entry)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    failures = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            for source in sources:
                try:
                    _fetch(source, part, entry, progress)
                except _SourceError as error:
                    failures.append(f"{source}: {error}")
                else:
                    part.replace(target)
                    return target
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror})", "set AMSNET_WEIGHTS_DIR elsewhere"
        ) from error
    raise WeightsError(
        f"cannot pull {entry.name} ({'; '.join(failures)})", "try again later, or set AMSNET_MIRROR"
    )


class _SourceError(Exception):
    """Why one source did not do."""


def _fetch(source: str, part: Path, entry: Entry, progress: Callable[[int, int], None]) -> None:
    if not source.startswith(("https://", "http://")):
        raise _SourceError("not an http address")
    try:
        response = urllib.request.urlopen(source, timeout=TIMEOUT)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _SourceError(getattr(error, "reason", None) or error) from error
    digest, done = hashlib.sha256(), 0
    with response, part.open("wb") as file:
        while done <= entry.size:
            try:
                block = response.read(BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _SourceError(f"broke off after {done} bytes ({error})") from error
            if not block:
                break
            digest.update(block)
            file.write(block)
            done += len(block)
            progress(min(done, entry.size), entry.size)
        file.flush()
        os.fsync(file.fileno())
    if done != entry.size:
        raise _SourceError(f"expected {entry.size} bytes, got {done}{'+' * (done > entry.size)}")
    if digest.hexdigest() != entry.sha256:
        raise _SourceError(f"expected sha256 {entry.sha256}, got {digest.hexdigest()}")
