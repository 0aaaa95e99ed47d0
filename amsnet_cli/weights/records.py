"""What was pulled or imported, when and from where.

Beside each such file lies a record, `NAME.json`, with the digest it had. What no publisher has
given a digest of is pinned on first use: the lock file, `weights.lock.json` in the user's data
folder, keeps the digest that was seen then, and every later pull or import must have it.
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
class Arrival:
    """A published file as it came here.

    Attributes:
        file: its name.
        source: the address or local file it came from.
        size: in bytes.
        sha256: of its content.
        date: when, as YYYY-MM-DD.
    """

    file: str
    source: str
    size: int
    sha256: str
    date: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """What lies beside a pulled or imported file.

    Attributes:
        came: the published file, which may have been converted.
        sha256: of the file that the record lies beside.
    """

    came: Arrival
    sha256: str


def arrival(path: Path, *, name: str, source: str) -> Arrival:
    """Describe a file that has just come from `source`."""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    size = path.stat().st_size
    return Arrival(file=name, source=source, size=size, sha256=sha256_of(path), date=today)


def record_path(path: Path) -> Path:
    """Where the record of a pulled or imported file lies."""
    return path.with_suffix(".json")


def read_record(path: Path) -> Record | None:
    """Read the record of a file; None if there is none.

    Raises:
        WeightsError: it is damaged.
    """
    content = _read_json(record_path(path))
    try:
        return Record(came=_arrival(content["came"]), sha256=content["sha256"]) if content else None
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{record_path(path)}: damaged", "pull or import it again") from error


def write_record(path: Path, record: Record) -> None:
    """Put a record beside a file."""
    _write_json(record_path(path), dataclasses.asdict(record))


def lock_path() -> Path:
    """Where the lock file lies."""
    home = os.environ.get("AMSNET_HOME")
    return (Path(home) if home else platformdirs.user_data_path("amsnet")) / "weights.lock.json"


def pinned_here(name: str) -> Arrival | None:
    """Look up what the lock file says of weights of this name.

    Raises:
        WeightsError: the lock file is damaged.
    """
    try:
        raw = _read_json(lock_path()).get(name)
        return _arrival(raw) if raw else None
    except (TypeError, AttributeError) as error:
        raise _damaged_lock(error) from error


def pin(name: str, came: Arrival) -> None:
    """Write what arrived into the lock file.

    Raises:
        WeightsError: the lock file is damaged; it is left as it is.
    """
    import filelock

    lock_path().parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(lock_path().with_name(".weights.lock")):
        content = _read_json(lock_path())
        _write_json(lock_path(), {**content, name: dataclasses.asdict(came)})


def _arrival(raw: dict[str, Any]) -> Arrival:
    came = Arrival(**raw)
    if not (isinstance(came.size, int) and isinstance(came.sha256, str)):
        raise TypeError("size and sha256 of a record")
    return came


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
        f"{lock_path()}: the digests recorded on first use cannot be read ({error})",
        "mend it; or delete it, to decide again whom to trust",
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())
