"""Photos through stdin and stdout: to all else they are files in a temporary folder."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from amsnet_cli.errors import OutputError, PhotoError, UsageError
from amsnet_cli.photos.limits import MAX_BYTES

if TYPE_CHECKING:
    from amsnet_cli.batch.destination import Destination
    from amsnet_cli.batch.naming import Naming

PIPE = "-"


@dataclass(frozen=True)
class Pipes:
    """The folder that stands for stdin and stdout; None where neither is used."""

    folder: Path | None

    def source(self, argument: str) -> Path:
        """Return the path of an input; what comes through stdin is saved first.

        Raises:
            UsageError: stdin is closed or a terminal.
            PhotoError: it cannot be read, or has more bytes than a photo.
            OutputError: the temporary folder is full.
        """
        if argument != PIPE or self.folder is None:
            return Path(argument)
        from amsnet_cli.photos.stream import save_stream

        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("no photo comes through stdin", "pipe one in, or name a file")
        try:
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        except OSError as error:
            raise PhotoError(f"stdin: cannot be read ({error.strerror})") from error
        except MemoryError as error:
            raise PhotoError("stdin: does not fit into memory") from error
        if len(content) > MAX_BYTES:
            raise PhotoError(f"stdin: more than {MAX_BYTES} bytes are no photo")
        with _temporary_files():
            return save_stream(io.BytesIO(content), self.folder)

    def destination(
        self, sources: Sequence[Path], output: str | None, naming: Naming
    ) -> Destination:
        """Return where results go: through stdout, or as `choose_destination` says.

        Raises:
            UsageError: see `choose_destination`; or stdout would get several photos, is closed or a
                terminal, or has to be asked for.
        """
        from amsnet_cli.batch.destination import (
            Destination,
            choose_destination,
            may_be_several,
        )

        if output is None and any(self.holds(source) for source in sources):
            raise UsageError("no output given", "use -o OUT, or -o - for stdout")
        if output != PIPE or self.folder is None:
            return choose_destination(sources, output, naming)
        if may_be_several(sources):
            raise UsageError("stdout takes one photo", "choose a folder with -o")
        if sys.stdout is None:
            raise UsageError("stdout is closed", "name a file with -o")
        if sys.stdout.isatty():
            raise UsageError("stdout is a terminal", "pipe it into a file or a program")
        suffix = Path(naming.name(sources[0])).suffix
        return Destination(path=self.folder / f"stdout{suffix}", into_folder=False)

    def holds(self, path: Path) -> bool:
        """Return whether a file stands for stdin or stdout."""
        return self.folder is not None and path.parent == self.folder


@contextmanager
def open_pipes(inputs: Sequence[str], output: str | None) -> Iterator[Pipes]:
    """Make the temporary folder, if `-` is among the inputs or is the output.

    Raises:
        OutputError: it cannot be made.
    """
    if PIPE not in (*inputs, output):
        yield Pipes(None)
        return
    with _temporary_files():
        temporary = TemporaryDirectory(prefix="amsnet-", ignore_cleanup_errors=True)
    with temporary as folder:
        yield Pipes(Path(folder))


@contextmanager
def _temporary_files() -> Iterator[None]:
    """Translate what the temporary folder does not take into an `OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"no temporary file can be written ({error.strerror})",
            "name another folder for them with TMPDIR",
        ) from error


def write_stdout(path: Path) -> None:
    """Write a file's bytes to stdout."""
    sys.stdout.buffer.write(path.read_bytes())
    sys.stdout.buffer.flush()
