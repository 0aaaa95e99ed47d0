"""Denoise a stack block by block: in bounded memory, resumable after each, by several processes.

A block is a page, or a part of a large one. Each process denoises its share of the blocks. They
wait in a hidden folder beside the result, as they are in memory, one after another in one file for
each share. The process that finds all shares complete writes the result. So nothing is said between
processes but by files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from filelock import FileLock, Timeout

from amsnet_cli.batch.shard import WHOLE, Shard
from amsnet_cli.errors import OutputError
from amsnet_cli.photos.suffix import size_and_time
from amsnet_cli.stacks.block import HALO, LONGEST_SIDE, Block, blocks_of
from amsnet_cli.stacks.stack import Page, Stack


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a stack is.

    Attributes:
        blocks: of the whole result.
        own: of them, those of this process.
        resumed: of its own, those that an earlier run has left.
        called: what a block is called: "pages", or "blocks" where pages are cut.
        is_last: whether all shares are complete, so that this process writes the result.
        missing: the shares that are not complete yet.
        strange: whether shares wait that were made with other options, and do not count.
    """

    blocks: int
    own: int
    resumed: int
    called: str
    is_last: bool
    missing: tuple[Shard, ...] = ()
    strange: bool = False


@dataclass(frozen=True, kw_only=True)
class StackRun:
    """The pages of a stack that are denoised, and where they wait for the others.

    Attributes:
        stack: the file.
        target: of the result.
        chosen: places of the first axis that are denoised.
        settings: all that the pages depend on; pages of other settings are not taken up again.
        part: the share of the blocks that this process denoises.
    """

    stack: Stack
    target: Path
    chosen: slice
    settings: dict[str, Any]
    part: Shard = WHOLE

    def denoise(
        self, denoised: Callable[[Block], Page], progress: Callable[[float], None]
    ) -> Progress:
        """Denoise the blocks of this share that are still missing.

        Args:
            denoised: returns a block of the stack, denoised.
            progress: called with the share done.

        Raises:
            OutputError: the folder cannot be written, or another process denoises this share.
            UsageError: no page is chosen.
        """
        blocks = [block for page in self._pages() for block in page]
        own = [blocks[position] for position in self.part.share(len(blocks))]
        called = "pages" if len(blocks) == len(self._pages()) else "blocks"
        if not own:
            return Progress(blocks=len(blocks), own=0, resumed=0, called=called, is_last=False)
        with self._locked(_name(self.part)):
            complete, growing = self._file(self.part), self._file(self.part, complete=False)
            was_complete = complete.is_file()
            if was_complete:
                done = len(own)
            else:
                with self._opened(growing) as file:
                    done = self._whole_blocks(file, own)
                    for position in range(done, len(own)):
                        self._append(file, denoised(own[position]))
                        progress((position + 1) / len(own))
            with self._locked("result", wait=not was_complete):
                if not complete.is_file():
                    self._rename(growing, complete)
                missing = tuple(
                    part
                    for part in self._parts()
                    if part.share(len(blocks)) and not self._file(part).is_file()
                )
        return Progress(
            blocks=len(blocks), own=len(own), resumed=done, called=called,
            is_last=not missing, missing=missing, strange=bool(missing) and self._others(),
        )  # fmt: skip

    def write(self, modified_ns: int | None = None) -> None:
        """Write the result, and remove the folder.

        Args:
            modified_ns: see `atomic.whole_file`.

        Raises:
            OutputError: it cannot be written.
        """
        pages_of_blocks = self._pages()
        count = sum(map(len, pages_of_blocks))
        files = [(part.share(count), self._file(part)) for part in self._parts()]
        try:
            with self._locked("result"):
                pages = _WaitingPages(
                    self.stack, pages_of_blocks, files, self._folder / self._digest
                )
                self.stack.write(self.target, pages, self.chosen, modified_ns)
                del pages
            shutil.rmtree(self._folder)
        except OSError as error:
            raise OutputError(
                f"{self.target}: cannot be written ({error.strerror or error})",
                "choose another place with -o",
            ) from error

    @property
    def _folder(self) -> Path:
        return self.target.with_name(f".{self.target.name}.amsnet-pages")

    def _pages(self) -> list[list[Block]]:
        """Return the blocks of each page of the result."""
        indices = self.stack.along_first_axis(self.chosen)
        return [blocks_of(index, self.stack.pages[index]) for index in indices]

    def _parts(self) -> list[Shard]:
        return [Shard(index, self.part.count) for index in range(self.part.count)]

    def _file(self, part: Shard, *, complete: bool = True) -> Path:
        end = "pages" if complete else "growing"
        return self._folder / f"{self._digest}-{_name(part)}.{end}"

    @cached_property
    def _digest(self) -> str:
        size, time = size_and_time(self.stack.path)
        settings = json.dumps(
            {
                **self.settings, "source": self.stack.path.name, "size": size, "time": time,
                "pages": repr(self.chosen), "block": [LONGEST_SIDE, HALO],
            },
            sort_keys=True,
        )  # fmt: skip
        return hashlib.blake2b(settings.encode(), digest_size=6).hexdigest()

    def _others(self) -> bool:
        """Return whether shares of this division wait that were made with other settings."""
        return any(
            not path.name.startswith(self._digest)
            for path in self._folder.glob(f"*-of-{self.part.count}.pages")
        )

    @contextmanager
    def _locked(self, name: str, *, wait: bool = False) -> Iterator[None]:
        try:
            self._folder.mkdir(exist_ok=True)
            lock = FileLock(self._folder / f"{name}.lock")
            lock.acquire(timeout=-1 if wait else 0)
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
    def _opened(self, path: Path) -> Iterator[BinaryIO]:
        """Open a file of pages to go on with it; those of other settings are deleted.

        A process that shares the stack with others leaves theirs alone.
        """
        try:
            if self.part.count == 1:
                for pattern in ("*.pages", "*.growing"):
                    for other in self._folder.glob(pattern):
                        if other != path:
                            other.unlink()
            file = path.open("r+b" if path.is_file() else "w+b")
        except OSError as error:
            raise self._unwritable(error) from error
        with file:
            yield file

    def _append(self, file: BinaryIO, page: Page) -> None:
        try:
            file.write(np.ascontiguousarray(page).tobytes())
            file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _rename(self, growing: Path, complete: Path) -> None:
        try:
            with growing.open("rb") as file:
                os.fsync(file.fileno())
            growing.replace(complete)
        except OSError as error:
            raise self._unwritable(error) from error

    def _whole_blocks(self, file: BinaryIO, blocks: list[Block]) -> int:
        """Count the blocks in the file, and set it behind the last whole one."""
        size, done, end = os.fstat(file.fileno()).st_size, 0, 0
        for block in blocks:
            after = end + block.bytes(self.stack.pages[block.page])
            if after > size:
                break
            done, end = done + 1, after
        file.truncate(end)
        file.seek(end)
        return done

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self._folder}: cannot be written ({error.strerror})", "choose another place with -o"
        )


class _WaitingPages(Sequence[Page]):
    """The pages that wait, in the order of the result. Only what is looked at is read.

    Args:
        stack: what they are of.
        pages: blocks of each page.
        files: for each share its blocks, and the file that holds them.
        place: beginning of the names of files for pages that are put together of blocks.
    """

    def __init__(
        self,
        stack: Stack,
        pages: list[list[Block]],
        files: list[tuple[range, Path]],
        place: Path,
    ) -> None:
        self._stack, self._pages, self._place = stack, pages, place
        self._files = [(share, path) for share, path in files if share]
        self._first = [share.start for share, _ in self._files]
        sizes = [b.bytes(stack.pages[b.page]) for blocks in pages for b in blocks]
        self._ends = list(accumulate(sizes, initial=0))
        self._starts = list(accumulate(map(len, pages), initial=0))

    def __len__(self) -> int:
        return len(self._pages)

    @overload
    def __getitem__(self, position: int) -> Page: ...
    @overload
    def __getitem__(self, position: slice) -> list[Page]: ...
    def __getitem__(self, position: int | slice) -> Page | list[Page]:
        if isinstance(position, slice):
            return [self[i] for i in range(len(self))[position]]
        if not 0 <= position < len(self):
            raise IndexError(position)
        first, blocks = self._starts[position], self._pages[position]
        if len(blocks) == 1:
            return self._block(first, blocks[0])
        path = self._place.with_name(f"{self._place.name}-{position}.page")
        kind = self._stack.pages[blocks[0].page]
        if not path.exists():
            self._put_together(path, first, blocks)
        return np.memmap(path, kind.dtype, "r", shape=kind.shape)

    def _put_together(self, path: Path, first: int, blocks: list[Block]) -> None:
        kind = self._stack.pages[blocks[0].page]
        part = path.with_suffix(".half")
        row = kind.bytes // kind.shape[0]
        pixel = row // kind.shape[1]
        with part.open("wb") as file:
            for i, block in enumerate(blocks):
                for y, values in enumerate(self._block(first + i, block), block.top):
                    file.seek(y * row + block.left * pixel)
                    file.write(values.tobytes())
        part.replace(path)

    def _block(self, number: int, block: Block) -> Page:
        """Return the block of this number in the result."""
        share, path = self._files[bisect_right(self._first, number) - 1]
        kind = self._stack.pages[block.page]
        offset = self._ends[number] - self._ends[share.start]
        return np.memmap(path, kind.dtype, "r", offset, block.shape(kind))


def _name(part: Shard) -> str:
    return str(part).replace("/", "-of-")
