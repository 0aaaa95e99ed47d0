"""Decode photos in processes of their own, which a crash of a library beneath may end.

Such a process reads photos from stdin, one after another, and answers each on stdout, until stdin
ends.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import IO, Any

from amsnet_cli.errors import AmsnetError, PhotoError, bugs_named
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import decode

_OWN_SESSION: dict[str, Any] = (
    {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    if os.name == "nt"
    else {"start_new_session": True}
)
"""So that Ctrl-C reaches this process alone."""


class DecoderProcesses:
    """Processes that decode photos, as many as decode at once. They are kept for the next photos.

    They end with this process, whatever ends it.
    """

    def __init__(self) -> None:
        self._idle: list[subprocess.Popen[bytes]] = []

    def decode(self, path: Path, content: bytes) -> Photo:
        """Decode a photo, see `read.decode`; may be called from several threads at once.

        Where no process can be started, the photo is decoded in this one.

        Raises:
            PhotoError: from `read.decode`; or the process ended before it had answered.
            BugError: an unforeseen exception.
        """
        try:
            process = self._take()
        except OSError:
            return decode(path, content)
        assert process.stdin and process.stdout
        try:
            name = os.fsencode(path)
            process.stdin.write(struct.pack("<QQ", len(name), len(content)) + name)
            process.stdin.write(content)
            process.stdin.flush()
            answer = _receive(process.stdout)
        except (OSError, EOFError) as error:
            end = _end(process)
            raise PhotoError(
                f"{path}: the library that decodes it crashed on it ({end})",
                "open it with another program and save it anew",
            ) from error
        except BaseException:
            _end(process)
            raise
        self._idle.append(process)
        if isinstance(answer, AmsnetError):
            raise answer
        assert isinstance(answer, Photo)
        return answer

    def _take(self) -> subprocess.Popen[bytes]:
        """Return a process that waits for a photo, an idle one or a new one."""
        while self._idle:
            process = self._idle.pop()
            if process.poll() is None:
                return process
            _end(process)
        # With the same modules as here: the folder it runs in may hold others of their names.
        code = f"import sys; sys.path[:] = {sys.path}; from {__name__} import serve; serve()"
        program = [sys.executable, "-c", code]
        pipe = subprocess.PIPE
        # Libraries print what they find wrong with a file; the answer says so already.
        return subprocess.Popen(
            program, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, **_OWN_SESSION
        )

    def close(self) -> None:
        """End the idle processes."""
        while self._idle:
            _end(self._idle.pop())


@cache
def decoder_processes() -> DecoderProcesses:
    """Return those of this process."""
    processes = DecoderProcesses()
    atexit.register(processes.close)
    return processes


def _end(process: subprocess.Popen[bytes]) -> str:
    """End a process that may have ended; returns what it ended by, for people."""
    process.kill()
    process.communicate()
    code = process.returncode
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


def _send(file: IO[bytes], answer: Photo | AmsnetError) -> None:
    """Write an answer; its arrays are not copied."""
    arrays: list[pickle.PickleBuffer] = []
    body = pickle.dumps(answer, protocol=5, buffer_callback=arrays.append)
    parts = [memoryview(body), *(array.raw() for array in arrays)]
    file.write(struct.pack("<Q", len(parts)))
    file.write(struct.pack(f"<{len(parts)}Q", *(part.nbytes for part in parts)))
    for part in parts:
        file.write(part)
    file.flush()


def _receive(file: IO[bytes]) -> object:
    """Read what `_send` wrote.

    Raises:
        EOFError: it ends too early.
    """
    (count,) = struct.unpack("<Q", _exactly(file, 8))
    sizes = struct.unpack(f"<{count}Q", _exactly(file, 8 * count))
    parts = [_exactly(file, size) for size in sizes]
    return pickle.loads(parts[0], buffers=parts[1:])


def _exactly(file: IO[bytes], size: int) -> bytearray:
    data = bytearray(size)
    if file.readinto(data) < size:  # type: ignore[attr-defined]
        raise EOFError
    return data


def serve() -> None:
    """Be such a process."""
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What libraries print is no answer.
    while len(sizes := questions.read(16)) == 16:
        name_length, length = struct.unpack("<QQ", sizes)
        path = Path(os.fsdecode(questions.read(name_length)))
        content = questions.read(length)
        if len(content) < length:
            break
        answer: Photo | AmsnetError
        try:
            with bugs_named(path):
                answer = decode(path, content)
        except AmsnetError as error:
            answer = error
        del content
        try:
            _send(answers, answer)
        except BrokenPipeError:
            break
        del answer
    os._exit(0)
