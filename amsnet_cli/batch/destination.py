"""Where the results of a batch go: into a file, a folder, or beside the photos."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amsnet_cli.batch.naming import Naming
from amsnet_cli.batch.plan import is_folder, plan_jobs
from amsnet_cli.errors import OutputError, UsageError
from amsnet_cli.photos.formats import STACK_SUFFIXES, WRITABLE
from amsnet_cli.photos.suffix import suffix_of

_SEPARATORS = ("/", os.sep)


@dataclass(frozen=True, kw_only=True)
class Destination:
    """A file, a folder, or the photos' own folders.

    Attributes:
        path: None for the photos' own folders.
        into_folder: whether `path` is a folder; if not, it is the file of the only result.
    """

    path: Path | None
    into_folder: bool = True

    def make_folder(self) -> None:
        """Make the folder of the results, if there is to be one.

        Raises:
            OutputError: it cannot be made.
        """
        if self.into_folder and self.path is not None:
            _make_folder(self.path)

    def make_subfolder(self, folder: Path) -> None:
        """Make a folder below that of the results, which must still exist.

        Raises:
            OutputError: it cannot be made, or the folder of the results is gone.
        """
        if self.into_folder and self.path is not None:
            _make_folder(folder, below=self.path)


def choose_destination(sources: Sequence[Path], output: str | None, naming: Naming) -> Destination:
    """Decide whether `output` is a file or a folder.

    It is a folder if it is one already, ends in a slash, has no suffix, or if there may be several
    photos.

    Args:
        sources: photos and folders.
        output: a path as the user gave it; None to put results beside the photos.
        naming: of the results.

    Raises:
        UsageError: there is no output and results would have the photos' names, or `output` does
            not suit the sources or the naming.
    """
    if output is None:
        if naming == Naming():
            raise UsageError("no output given", "use -o OUT, or --suffix _clean")
        return Destination(path=None)
    path = Path(output)
    has_slash = output.endswith(_SEPARATORS)
    if not may_be_several(sources) and not (has_slash or is_folder(path) or not path.suffix):
        if naming.template != Naming.template:
            raise UsageError(f"{output}: already names the result", "leave out --name and --suffix")
        if naming.format and path.suffix.lower() != f".{naming.format}":
            raise UsageError(f"{output}: not a {naming.format} file", "leave out --format")
        return Destination(path=path, into_folder=False)
    is_suffix = suffix_of(path.name) in WRITABLE.keys() | STACK_SUFFIXES
    named_like_a_photo = is_suffix and not has_slash
    if not is_folder(path) and (named_like_a_photo or path.is_file()):
        raise UsageError(f"{output}: a file, but there may be several photos", "name a folder")
    return Destination(path=path)


def make_output_folder(folder: Path, output: Path, *, force: bool) -> None:
    """Make the folder for the results of all photos of another folder.

    Raises:
        AmsnetError: the photos could not all be written to it; see `choose_destination` and
            `plan_jobs`.
    """
    destination = choose_destination([folder], str(output), Naming())
    plan_jobs([folder], destination.path, recursive=True, force=force)
    destination.make_folder()


def may_be_several(sources: Sequence[Path]) -> bool:
    """Return whether the sources may hold more than one photo."""
    return len(sources) > 1 or any(is_folder(source) for source in sources)


def _make_folder(folder: Path, below: Path | None = None) -> None:
    try:
        if below is not None and not below.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        folder.mkdir(exist_ok=True, parents=below is not None)
    except OSError as error:
        raise OutputError(f"{folder}: cannot make this folder ({error.strerror})") from error
