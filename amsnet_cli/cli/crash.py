"""Tell in one line of a crash in a library that decodes a photo in this process.

Such a crash ends the process by a signal, too soon for any line of Python. `faulthandler` then
still writes into a pipe, at whose other end a small process waits to tell it.
"""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amsnet_cli.cli.console import printable
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import decode

_TELLER = """
import sys
first, _, _ = sys.stdin.buffer.read().decode(errors="replace").partition("\\n")
if first:
    sys.stderr.write(sys.argv[1].format(first.rpartition(": ")[2].lower()) + "\\n")
"""
_APART: dict[str, Any] = {} if os.name == "nt" else {"start_new_session": True}
"""So that Ctrl-C reaches this process alone."""


def decode_told(path: Path, content: bytes) -> Photo:
    """Decode a photo, see `read.decode`; a crash of a library is told."""
    with crash_told(path):
        return decode(path, content)


@contextmanager
def crash_told(path: Path) -> Iterator[None]:
    """Tell on stderr, with a photo's name, if the process dies within.

    Nothing happens where `faulthandler` is at work already, or no process can be started.
    """
    name = printable(str(path)).replace("{", "{{").replace("}", "}}")
    line = f"error: {name}: the library that decodes it crashed on it ({{}})"
    line += "; open it with another program and save it anew"
    program = [sys.executable, "-I", "-S", "-c", _TELLER, line]
    try:
        if faulthandler.is_enabled():
            raise OSError
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        teller = subprocess.Popen(program, stdin=pipe, stdout=null, **_APART)
    except OSError:
        yield
        return
    assert teller.stdin is not None
    faulthandler.enable(teller.stdin, all_threads=False)
    try:
        yield
    finally:
        faulthandler.disable()
        teller.kill()
        teller.communicate()
