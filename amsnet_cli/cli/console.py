"""What people see: messages and progress on stderr, errors in one line, exit codes."""

from __future__ import annotations

import functools
import math
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import ParamSpec

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from amsnet_cli.errors import AmsnetError

SOME_FAILED = 3
INTERRUPTED = 130

P = ParamSpec("P")

stderr = Console(stderr=True, highlight=False, soft_wrap=True)
stdout = Console(highlight=False, soft_wrap=True)


def show_table(table: Table) -> None:
    """Print a table on stdout, as wide as it is where no terminal limits it."""
    Console(width=None if stdout.is_terminal else 200).print(table)


def say(line: str) -> None:
    """Print a message for people; brackets in it are text, not markup."""
    stderr.print(escape(_plain(line)))


def _plain(text: str) -> str:
    """Write out characters that would steer the terminal, or that no encoding has."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def camera_and_speeds(camera: str, speeds: Sequence[int]) -> str:
    """Say what a model is fitted to: a camera, and its lowest and highest ISO if they are known."""
    return f"{camera}, ISO {' to '.join(map(str, dict.fromkeys(speeds)))}" if speeds else camera


def complain(error: AmsnetError) -> None:
    """Print an error in one line, and where it came from if `AMSNET_DEBUG` is set."""
    if os.environ.get("AMSNET_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    line = _plain(" ".join(str(error).split()))
    stderr.print(f"[bold red]error:[/] {escape(line)}")


_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""What asks a process to end, beside Ctrl-C."""


def reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turn a command's errors into a line and an exit code, and signals into 128 + their number."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        before = {}
        try:
            for number in _ENDING:
                # Under nohup it stays ignored.
                if signal.getsignal(number) != signal.SIG_IGN:
                    before[number] = signal.signal(number, _interrupt)
            # Damaged EXIF is either carried over as it is or refused by name.
            warnings.filterwarnings("ignore", module="PIL")
            command(*args, **kwargs)
        except AmsnetError as error:
            complain(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as request:
            say("interrupted")
            raise typer.Exit(request.args[0] if request.args else INTERRUPTED) from None
        finally:  # All is done: what comes now ends the process as it would any.
            for number, handler in before.items():
                signal.signal(number, handler)

    return wrapped


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(128 + number)


@contextmanager
def imports_whole() -> Iterator[None]:
    """Hold Ctrl-C and other requests to end back until an import of torch is through.

    An interrupt amid it can be swallowed there, and leave half a numpy behind.
    """
    asked = 0

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = number

    wanted = [s for s in (signal.SIGINT, *_ENDING) if signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, remember) for s in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise KeyboardInterrupt(128 + asked)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and SIGTERM ask for a stop; a second one interrupts at once.

    Within a second they count as one: torchrun passes on what the terminal has sent already.

    Yields:
        A function that tells whether a stop was asked for.
    """
    asked = math.inf

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if time.monotonic() > asked + 1:
            raise KeyboardInterrupt
        asked = min(asked, time.monotonic())

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked < math.inf
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bar(what: str, *, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Show a bar on a terminal; elsewhere nothing.

    Yields:
        A function to call with the share done.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    hidden = quiet or not stderr.is_terminal
    with Progress(
        *columns, TimeRemainingColumn(), console=stderr, transient=True, disable=hidden
    ) as bars:
        task = bars.add_task(escape(_plain(what)), total=1.0)
        yield lambda share: bars.update(task, completed=share)


@contextmanager
def download_bar(what: str, *, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Show bytes, rate and time left on a terminal; elsewhere nothing.

    Yields:
        A function to call with bytes done and bytes in all, or None where no one says.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TransferSpeedColumn(), TimeRemainingColumn(),
        console=stderr, transient=True, disable=quiet or not stderr.is_terminal,
    ) as bars:  # fmt: skip
        task = bars.add_task(escape(what), total=None, visible=False)
        started = False

        def show(done: int, size: int | None) -> None:
            nonlocal started
            if not started:  # What an earlier pull has left does not count as speed.
                bars.reset(task, completed=done, visible=True)
                started = True
            bars.update(task, completed=done, total=size)

        yield show


def print_result(line: str | Path) -> None:
    """Print a result on stdout, as it is, for other programs to read; names may be no text."""
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(f"{line}\n"))
    sys.stdout.buffer.flush()
