"""Denoise a stack page by page: in bounded memory, and resumable after any page."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from amsnet_cli.errors import OutputError
from amsnet_cli.stacks.stack import Page, Stack


@dataclass(frozen=True, kw_only=True)
class StackRun:
    """The pages of a stack that are denoised, and where they wait for the others.

    They wait in a hidden folder beside the result, as they are in memory, one after another.

    Attributes:
        stack: the file.
        target: of the result.
        chosen: places of the first axis that are denoised.
        settings: all that the pages depend on; pages of other settings are not taken up again.
    """

    stack: Stack
    target: Path
    chosen: slice
    settings: dict[str, Any]

    def denoise(
        self, page: Callable[[int], Page], progress: Callable[[float], None]
    ) -> tuple[int, int]:
        """Denoise the pages that are still missing.

        Args:
            page: returns a page of the stack, denoised.
            progress: called with the share done.

        Returns:
            How many pages there are, and how many of them an earlier run has left.

        Raises:
            OutputError: the folder cannot be written, or another process writes into it.
            UsageError: no page is chosen.
        """
        indices = self.stack.along_first_axis(self.chosen)
        with self._locked(), self._opened() as file:
            done = self._whole_pages(file, indices)
            for position in range(done, len(indices)):
                content = np.ascontiguousarray(page(indices[position]))
                try:
                    file.write(content.tobytes())
                    file.flush()
                except OSError as error:
                    raise self._unwritable(error) from error
                progress((position + 1) / len(indices))
        return len(indices), done

    def write(self, modified_ns: int | None = None) -> None:
        """Write the result, and remove the folder.

        Args:
            modified_ns: see `atomic.whole_file`.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            with self._locked():
                self.stack.write(self.target, self._pages(), self.chosen, modified_ns)
            shutil.rmtree(self._folder)
        except OSError as error:
            raise OutputError(
                f"{self.target}: cannot be written ({error.strerror or error})",
                "choose another place with -o",
            ) from error

    def _pages(self) -> Iterator[Page]:
        with self._file.open("rb") as file:
            for index in self.stack.along_first_axis(self.chosen):
                kind = self.stack.pages[index]
                yield np.frombuffer(file.read(kind.bytes), kind.dtype).reshape(kind.shape)

    @property
    def _folder(self) -> Path:
        return self.target.with_name(f".{self.target.name}.amsnet-pages")

    @property
    def _file(self) -> Path:
        return self._folder / "pages"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._folder.mkdir(exist_ok=True)
            lock = FileLock(self._folder / "lock")
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(
                f"{self.target}: another process is writing it", "wait, or choose another name"
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """Open the file of pages; it is emptied if it belongs to other settings."""
        status = self.stack.path.stat()
        settings = json.dumps(
            {
                **self.settings, "source": str(self.stack.path.resolve()), "size": status.st_size,
                "time": status.st_mtime_ns, "pages": repr(self.chosen),
            },
            sort_keys=True,
        )  # fmt: skip
        note = self._folder / "settings.json"
        try:
            same = note.is_file() and note.read_text(encoding="utf-8") == settings
            if not same:
                self._file.unlink(missing_ok=True)
                note.write_text(settings, encoding="utf-8")
            file = self._file.open("r+b" if self._file.is_file() else "w+b")
        except OSError as error:
            raise self._unwritable(error) from error
        with file:
            yield file

    def _whole_pages(self, file: BinaryIO, indices: list[int]) -> int:
        """Count the pages in the file, and set it behind the last whole one."""
        size, done, end = os.fstat(file.fileno()).st_size, 0, 0
        for index in indices:
            if end + self.stack.pages[index].bytes > size:
                break
            done, end = done + 1, end + self.stack.pages[index].bytes
        file.truncate(end)
        file.seek(end)
        return done

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self._folder}: cannot be written ({error.strerror})", "choose another place with -o"
        )
