"""stdin, stdout and stderr that are closed, full or cut off, as services and cron leave them."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from amsnet_cli.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PIPE_CLOSED = 141
"""Exit code of a command whose reader has gone: 128 and the number of SIGPIPE."""


class _Output(io.FileIO):
    """A file descriptor for output; after its first error all that is written is dropped.

    Attributes:
        error: the first error.

    Args:
        descriptor: stays open.
        ends_with_reader: end the process once nobody reads any more.
    """

    def __init__(self, descriptor: int, *, ends_with_reader: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.error: OSError | None = None
        self._ends_with_reader = ends_with_reader

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some or all of the data; returns how many bytes are dealt with."""
        while self.error is None:
            try:
                written = super().write(data)
            except OSError as error:
                self.error = error
                if self._ends_with_reader and error.errno == errno.EPIPE:
                    raise SystemExit(PIPE_CLOSED) from None
            else:
                if written is not None:
                    return written
                select.select([], [self], [])  # A non-blocking descriptor.
        return memoryview(data).nbytes


def run_with_streams(command: Callable[[], object], complain: Callable[[OutputError], None]) -> int:
    """Run a command whose standard streams may be closed, full or cut off.

    Work continues where only messages are lost. A closed stream takes everything in silence,
    and `sys.stdin` and `sys.stdout` are None then. What a full disk keeps from stdout is an error
    in the end. A command ends at once, in silence, when the reader of its stdout has gone.

    Args:
        command: ends by `SystemExit`.
        complain: prints an error.

    Returns:
        The exit code.
    """
    for descriptor in range(3):
        _occupy(descriptor)
    stdout = _Output(1, ends_with_reader=True)
    if sys.stdout is not None:
        sys.stdout = _text(stdout, sys.stdout)
    sys.stderr = _text(_Output(2, ends_with_reader=False), sys.stderr)
    try:
        command()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    # Once Ctrl-C has left code that is made of a string, as imports of torch hold it, CPython ends
    # the process by SIGINT, though it was handled since. To run more such code takes that back.
    eval("0")
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except SystemExit:
        return PIPE_CLOSED
    if stdout.error and code != PIPE_CLOSED:
        complain(OutputError(f"stdout: cannot be written ({stdout.error.strerror})"))
        return code or OutputError.exit_code
    return code


def _occupy(descriptor: int) -> None:
    """Open a closed descriptor; else the next file that is opened gets it, and all messages."""
    try:
        os.fstat(descriptor)
    except OSError:
        while os.open(os.devnull, os.O_RDWR) < descriptor:
            pass


def _text(output: _Output, before: TextIO | None) -> TextIO:
    """Return a text stream for a descriptor, like the one before; that itself on its console."""
    if before is None:
        return io.TextIOWrapper(io.BufferedWriter(output), "utf-8", "backslashreplace")
    if os.name == "nt" and before.isatty():  # Windows writes Unicode to consoles by other means.
        return before
    return io.TextIOWrapper(
        io.BufferedWriter(output), before.encoding, before.errors,
        line_buffering=before.isatty() or output.fileno() == 2,
    )  # fmt: skip
