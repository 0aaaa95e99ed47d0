"""Records of the origin of pulled and imported files, and the digests trusted on first use.

Each such file has a record beside it, `NAME.json`, with its origin and digest. If no digest is
published, the first download is trusted (trust on first use). The lock file, `weights.lock.json` in
the user's data folder, records its digest, and every later pull or import must match it.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from amsnet_cli.atomic import write_whole
from amsnet_cli.errors import WeightsError
from amsnet_cli.weights.manifest import sha256_of


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A published file as it was downloaded or imported.

    Attributes:
        file: its name.
        source: the address or local path it came from.
        size: in bytes.
        sha256: of its content.
        date: UTC, as YYYY-MM-DD.
    """

    file: str
    source: str
    size: int
    sha256: str
    date: str

    @classmethod
    def of(cls, path: Path, *, name: str, source: str) -> Origin:
        """Describe a file that was just downloaded or copied from `source`."""
        today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        size = path.stat().st_size
        return cls(file=name, source=source, size=size, sha256=sha256_of(path), date=today)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Content of the record beside a pulled or imported file.

    Attributes:
        origin: the published file, before any conversion.
        sha256: of the file beside the record.
    """

    origin: Origin
    sha256: str


def record_path(path: Path) -> Path:
    """Path of a file's record."""
    return path.with_suffix(".json")


def read_record(path: Path) -> Record | None:
    """Read the record of a file; None if there is none.

    Raises:
        WeightsError: it is damaged.
    """
    content = _read_json(record_path(path))
    if not content:
        return None
    try:
        return Record(origin=_parse_origin(content["origin"]), sha256=content["sha256"])
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{record_path(path)}: damaged", "pull or import it again") from error


def write_record(path: Path, record: Record) -> None:
    """Write a file's record beside it."""
    _write_json(record_path(path), dataclasses.asdict(record))


def lock_path() -> Path:
    """Path of the lock file."""
    home = os.environ.get("AMSNET_HOME")
    return (Path(home) if home else platformdirs.user_data_path("amsnet")) / "weights.lock.json"


def first_use(name: str) -> Origin | None:
    """Return the origin recorded on the first use of these weights; None if there is none.

    Raises:
        WeightsError: the lock file is damaged.
    """
    try:
        raw = _read_json(lock_path()).get(name)
        return _parse_origin(raw) if raw else None
    except (TypeError, AttributeError) as error:
        raise _damaged_lock(error) from error


def record_first_use(name: str, origin: Origin) -> None:
    """Record the digest that later pulls and imports of these weights must match.

    Raises:
        WeightsError: the lock file is damaged; it is not changed.
    """
    import filelock

    lock_path().parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(lock_path().with_name(".weights.lock")):
        content = _read_json(lock_path())
        _write_json(lock_path(), {**content, name: dataclasses.asdict(origin)})


def _parse_origin(raw: dict[str, Any]) -> Origin:
    origin = Origin(**raw)
    if not (isinstance(origin.size, int) and isinstance(origin.sha256, str)):
        raise TypeError("size and sha256 of a record")
    return origin


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        if path == lock_path():
            raise _damaged_lock(error) from error
        raise WeightsError(
            f"{path}: cannot be read ({error})", "pull or import the weights again"
        ) from error
    return content


def _damaged_lock(error: Exception) -> WeightsError:
    return WeightsError(
        f"{lock_path()}: cannot read the recorded checksums ({error})",
        "repair or delete the file; deleting resets the recorded checksums",
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())
