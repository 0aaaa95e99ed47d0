"""Photos in stores that fsspec reaches by URL: to all else they are files in a temporary folder.

There, files of the store stand as empty ones under their names, so that a batch is planned as any
other. Each is fetched when it is read, and each result is published when it is written.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Generic

from amsnet_cli.batch.job import Info, Job
from amsnet_cli.batch.run import Steps
from amsnet_cli.batch.url import is_url
from amsnet_cli.errors import AmsnetError, OutputError, PhotoError, UsageError
from amsnet_cli.photos.photo import Photo

_PUT_IS_ATOMIC = frozenset({"abfs", "adl", "az", "gcs", "gs", "memory", "oci", "s3", "s3a"})
"""Stores where a file appears only once it is complete. In others it gets its name last."""


@dataclass(frozen=True)
class _Place:
    """A folder or a file of a store, and where it stands in the temporary folder.

    Attributes:
        url: as given, without a slash at its end.
        store: the file system of fsspec.
        root: its path in the store.
        local: its path in the temporary folder.
        keys: paths in the store, by path in the temporary folder; only of inputs.
    """

    url: str
    store: Any
    root: str
    local: Path
    keys: dict[Path, str] = field(default_factory=dict)


class RemoteFiles:
    """The temporary folder and the places that stand in it.

    Args:
        folder: the temporary folder; None where no URL is used.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._inputs: list[_Place] = []
        self._output: _Place | None = None

    def source(self, argument: str) -> str:
        """Return the path that stands for an input; a path stands for itself.

        Raises:
            UsageError: there is no such kind of store, or what it needs is not installed.
            PhotoError: there is nothing, or the store cannot be reached.
        """
        if not is_url(argument) or self._folder is None:
            return argument
        place = self._open(argument, f"in{len(self._inputs)}")
        with _translated(PhotoError, argument):
            if place.store.isfile(place.root):
                self._stand_in(place, place.local, place.root)
            else:
                self._list(place)
                if not place.keys:
                    raise PhotoError(f"{argument}: nothing there", "check the address")
        self._inputs.append(place)
        return str(place.local)

    def output(self, argument: str | None) -> str | None:
        """Return the path that stands for the output; a path stands for itself.

        Raises:
            UsageError: see `source`.
            OutputError: the store cannot be reached.
        """
        if argument is None or not is_url(argument) or self._folder is None:
            return argument
        place = self._output = self._open(argument, "out")
        with _translated(OutputError, argument):
            if place.store.isfile(place.root):
                self._stand_in(place, place.local, place.root)
            else:
                self._list(place)
        place.keys.clear()
        return f"{place.local}{'/' * argument.endswith('/')}"

    def steps(self, steps: Steps[Info]) -> Steps[Info]:
        """Return steps that fetch and publish files, if there are any to be."""
        return steps if self._folder is None else _RemoteSteps(steps, self)

    def text(self, text: str) -> str:
        """Return a text with URLs for the paths that stand for them."""
        for place in [*self._inputs, *([self._output] if self._output else [])]:
            text = text.replace(str(place.local), place.url)
        return text

    @contextmanager
    def named(self) -> Iterator[None]:
        """Name URLs in errors."""
        try:
            yield
        except AmsnetError as error:
            error.what, error.hint = self.text(error.what), self.text(error.hint)
            error.args = (self.text(str(error)),)
            raise

    def fetch(self, path: Path) -> None:
        """Fill a file that stands for one of a store.

        Raises:
            PhotoError: the store does not give it, or not whole.
        """
        for place in self._inputs:
            if key := place.keys.get(path):
                with _translated(PhotoError, self.text(str(path))):
                    place.store.get_file(key, str(path))
                    info = place.store.info(key)
                    if info.get("size") not in (None, path.stat().st_size):
                        raise PhotoError(f"{path}: came incompletely", "try again")

    def empty(self, path: Path) -> None:
        """Give back the space of a file that stands for one of a store."""
        if any(path in place.keys for place in self._inputs):
            path.write_bytes(b"")

    def publish(self, path: Path) -> None:
        """Send a result to the store, where it appears when it is complete.

        Raises:
            OutputError: the store does not take it, or not whole.
        """
        place = self._output
        if place is None or not path.is_relative_to(place.local):
            return
        below = path.relative_to(place.local).as_posix()
        target = place.root if below == "." else f"{place.root}/{below}"
        with _translated(OutputError, self.text(str(path))):
            _put(place.store, path, target)
            place.store.invalidate_cache()
            if place.store.info(target).get("size") not in (None, path.stat().st_size):
                raise OutputError(f"{path}: arrived incompletely", "try again")
        path.write_bytes(b"")

    def _open(self, url: str, name: str) -> _Place:
        assert self._folder is not None
        try:
            import fsspec
        except ImportError as error:
            raise UsageError(
                f"{url}: fsspec is not installed", "run: pip install 'amsnet[remote]'"
            ) from error
        try:
            store, root = fsspec.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise UsageError(f"{url}: not installed ({error})", "install it with pip") from error
        except (ValueError, TypeError) as error:
            raise UsageError(f"{url}: not a URL of a store ({error})", "as s3://...") from error
        except Exception as error:
            raise PhotoError(f"{url}: cannot be reached ({_said(error)})") from error
        root = root.rstrip("/")
        (self._folder / name).mkdir()
        local = self._folder / name / (PurePosixPath(root).name or "root")
        return _Place(url.rstrip("/"), store, root, local)

    def _list(self, place: _Place) -> None:
        if not place.store.exists(place.root):
            return
        place.local.mkdir()
        for key in place.store.find(place.root):
            below = key[len(place.root) :].lstrip("/")
            if {"", ".", ".."} & set(below.split("/")):
                raise PhotoError(f"{place.url}/{below}: not the name of a file", "rename it")
            self._stand_in(place, place.local / below, key)

    def _stand_in(self, place: _Place, path: Path, key: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        place.keys[path] = key


@dataclass(frozen=True)
class _RemoteSteps(Generic[Info]):
    steps: Steps[Info]
    files: RemoteFiles

    def read(self, job: Job) -> Photo:
        with self.files.named():
            if job.source.is_dir():
                raise PhotoError(f"{job.source}: Zarr cannot be in a store", "copy it to a disk")
            self.files.fetch(job.source)
            try:
                return self.steps.read(job)
            finally:
                self.files.empty(job.source)

    def denoise(self, job: Job, photo: Photo) -> tuple[Photo, Info]:
        with self.files.named():
            return self.steps.denoise(job, photo)

    def write(self, job: Job, photo: Photo) -> None:
        with self.files.named():
            self.steps.write(job, photo)
            self.files.publish(job.target)


@contextmanager
def open_remote(inputs: Sequence[str], output: str | None) -> Iterator[RemoteFiles]:
    """Make the temporary folder, if there is a URL among the inputs and the output.

    Raises:
        OutputError: it cannot be made.
    """
    if not any(map(is_url, [*inputs, output])):
        yield RemoteFiles(None)
        return
    try:
        temporary = TemporaryDirectory(prefix="amsnet-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(
            f"no temporary file can be written ({error.strerror})",
            "name another folder for them with TMPDIR",
        ) from error
    with temporary as folder:
        yield RemoteFiles(Path(folder))


def _put(store: Any, path: Path, target: str) -> None:
    protocols = {store.protocol} if isinstance(store.protocol, str) else set(store.protocol)
    if protocols & _PUT_IS_ATOMIC:
        store.put_file(str(path), target)
        return
    folder = target.rpartition("/")[0]
    store.makedirs(folder, exist_ok=True)
    part = f"{folder}/.amsnet-{secrets.token_hex(4)}.part"
    try:
        store.put_file(str(path), part)
        with suppress(FileNotFoundError):
            store.rm_file(target)
        store.mv(part, target)
    except BaseException:
        with suppress(Exception):
            store.rm_file(part)
        raise


@contextmanager
def _translated(kind: type[AmsnetError], url: str) -> Iterator[None]:
    """Turn whatever a store raises into an error of one line."""
    try:
        yield
    except AmsnetError:
        raise
    except Exception as error:
        verb = "read" if kind is PhotoError else "written"
        raise kind(f"{url}: cannot be {verb} ({_said(error)})", "try again") from error


def _said(error: Exception) -> str:
    said = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return " ".join((said or type(error).__name__).split())[:200]
