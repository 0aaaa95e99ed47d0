"""Output of the command line: results on stdout, messages and progress on stderr, exit codes."""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import ParamSpec, TypeVar

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

from amsnet_cli.errors import AmsnetError, UsageError

SOME_FAILED = 3
INTERRUPTED = 130

P = ParamSpec("P")
T = TypeVar("T")

stderr = Console(stderr=True, highlight=False, soft_wrap=True)
stdout = Console(highlight=False, soft_wrap=True)


def show_table(table: Table) -> None:
    """Print a table on stdout; where that is no terminal, up to 200 columns wide."""
    Console(width=None if stdout.is_terminal else 200).print(table)


def say(line: str) -> None:
    """Print a message on stderr; brackets in it are text, not markup."""
    stderr.print(escape(printable(line)))


def printable(text: str) -> str:
    """Escape control characters, which could steer the terminal, and what cannot be encoded."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def debugging() -> bool:
    """Return whether `AMSNET_DEBUG` is set."""
    return os.environ.get("AMSNET_DEBUG", "0") not in ("", "0")


def complain(error: AmsnetError) -> None:
    """Print an error in one line; with `AMSNET_DEBUG` set, its traceback as well."""
    if debugging():
        traceback.print_exception(error)
    line = printable(" ".join(str(error).split()))
    stderr.print(f"[bold red]error:[/] {escape(line)}")


_INTERRUPTIONS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""Signals that ask a process to end; SIGINT is Ctrl-C."""


def reports_errors(command: Callable[P, T]) -> Callable[P, T]:
    """Turn errors into one line and an exit code, and signals into 128 + their number."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        before = {}
        try:
            for number in _INTERRUPTIONS:
                # Under nohup SIGHUP stays ignored, in the background of a script SIGINT.
                if signal.getsignal(number) != signal.SIG_IGN:
                    before[number] = signal.signal(number, _interrupt)
            # Damaged EXIF is either kept as it is or reported as an error of its own.
            warnings.filterwarnings("ignore", module="PIL")
            return command(*args, **kwargs)
        except AmsnetError as error:
            complain(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as request:
            say("interrupted")
            raise typer.Exit(request.args[0] if request.args else INTERRUPTED) from None
        finally:  # The work is done: a signal from here on ends the process as usual.
            for number, handler in before.items():
                signal.signal(number, handler)

    return wrapped


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(128 + number)


@contextmanager
def imports_whole() -> Iterator[None]:
    """Delay Ctrl-C and termination signals until imports of numpy and torch are complete.

    An interrupt during these can be swallowed, and leave numpy half imported.
    """
    received = 0

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = number

    handled = [s for s in _INTERRUPTIONS if signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, remember) for s in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise KeyboardInterrupt(128 + received)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and SIGTERM request a stop; a second one interrupts at once.

    Signals within a second count as one: torchrun repeats what the terminal has already sent.

    Yields:
        A function that returns whether a stop was requested.
    """
    requested = math.inf

    def request(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if time.monotonic() > requested + 1:
            raise KeyboardInterrupt
        requested = min(requested, time.monotonic())

    before = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested < math.inf
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bar(label: str, *, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Show a progress bar on a terminal; elsewhere nothing.

    Yields:
        A function to call with the fraction done.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    hidden = quiet or not stderr.is_terminal
    with Progress(
        *columns, TimeRemainingColumn(), console=stderr, transient=True, disable=hidden
    ) as bars:
        task = bars.add_task(escape(printable(label)), total=1.0)
        yield lambda fraction: bars.update(task, completed=fraction)


@contextmanager
def download_bar(label: str, *, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Show bytes, rate and time left of a download on a terminal; elsewhere nothing.

    Yields:
        A function to call with the bytes so far and the total, or None where it is unknown.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TransferSpeedColumn(), TimeRemainingColumn(),
        console=stderr, transient=True, disable=quiet or not stderr.is_terminal,
    ) as bars:  # fmt: skip
        task = bars.add_task(escape(label), total=None, visible=False)
        started = False

        def show(done: int, size: int | None) -> None:
            nonlocal started
            if not started:  # Bytes of an earlier attempt do not count as speed.
                bars.reset(task, completed=done, visible=True)
                started = True
            bars.update(task, completed=done, total=size)

        yield show


def confirm(question: str) -> bool:
    """Ask a yes-or-no question on stderr.

    Raises:
        UsageError: stdin is closed or cannot be read.
    """
    try:
        if sys.stdin is not None:
            return typer.confirm(question, err=True)
    except (OSError, UnicodeDecodeError):
        pass
    raise UsageError("no answer comes through stdin", "say yes beforehand with --yes")


def print_result(line: str | Path) -> None:
    """Print a line on stdout for other programs, unescaped; file names may be any bytes."""
    if sys.stdout is None:  # closed
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(f"{line}\n"))
    sys.stdout.buffer.flush()


def print_json(value: object) -> None:
    """Print a value as one line of JSON on stdout."""
    print_result(json.dumps(value))
