"""Run LibRaw on one file, in a process of its own (`libraw.py`)."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.dng_tags import DngTags
from amsnet_cli.photos.mosaic import NotAMosaicError

_CUT_SHORT = ("Unexpected end of file", "remature end")


def run_libraw(
    path: Path,
    content: bytes,
    tags: DngTags | None,
    task: dict[str, Any],
    values: NDArray[np.uint16] | None = None,
) -> tuple[dict[str, Any], NDArray[np.uint16], str]:
    """Read or develop a RAW file.

    Args:
        path: for messages.
        content: the file.
        tags: of a DNG file.
        task: "develop" with the arguments of `libraw.develop`, or "measure_matrix" for
            `libraw.read_mosaic`.
        values: (H, W), in place of the active area.

    Returns:
        The answer of `libraw.read_mosaic` or `libraw.develop`, their pixels, and what LibRaw
        complains of.

    Raises:
        NotAMosaicError: it holds none, or one of other colours.
        PhotoError: LibRaw cannot open the file, crashes, takes too long, or the file is cut short.
    """
    colours = None if tags is None else tags.colours
    if colours is not None:
        task = {**task, "colours": colours.tolist()}
    task = {**task, "length": len(content)}
    parts: list[bytes | memoryview] = [content]
    if values is not None:
        parts.append(np.ascontiguousarray(values).data)
    ran = _run(task, parts, seconds=120 + 4e-6 * len(content))
    if ran.timed_out:
        raise _refusal(path, "it takes too long")
    if ran.returncode:
        raise _refusal(path, "it crashes on it")
    if "no_mosaic" in ran.answer:
        raise NotAMosaicError(f"{path}: {ran.answer['no_mosaic']}", "denoise it after development")
    if "error" in ran.answer:
        raise _refusal(path, ran.answer["error"])
    if any(words in ran.complaints for words in _CUT_SHORT):
        raise PhotoError(f"{path}: damaged or cut short", "copy it again from the camera's card")
    return ran.answer, ran.pixels, ran.complaints


@dataclass(kw_only=True)
class _Run:
    """What came of a run of `libraw.py`: its answer, pixels, complaints, and how it ended."""

    answer: dict[str, Any] = field(default_factory=dict)
    pixels: NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, np.uint16))
    complaints: str = ""
    returncode: int = 0
    timed_out: bool = False


def _run(task: dict[str, Any], parts: Sequence[bytes | memoryview], seconds: float) -> _Run:
    """Run `libraw.py`; large arrays pass through its pipes without copies.

    Args:
        task: what it is to do.
        parts: what it reads.
        seconds: after which it is ended.
    """
    program = [sys.executable, str(Path(__file__).with_name("libraw.py")), json.dumps(task)]
    pipe = subprocess.PIPE
    ran = _Run()
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin and process.stderr
        assert isinstance(process.stdout, io.BufferedReader)
        log: list[bytes] = []
        reader = threading.Thread(target=lambda f: log.append(f.read()), args=[process.stderr])
        watchdog = threading.Timer(seconds, process.kill)
        started = time.monotonic()
        reader.start()
        watchdog.start()
        try:
            with suppress(OSError):  # It ends early where it cannot open the file.
                for part in parts:
                    process.stdin.write(part)
                process.stdin.close()
            line = process.stdout.readline()
            if line.endswith(b"\n"):
                ran.answer = json.loads(line)
            if "shape" in ran.answer:
                ran.pixels = np.empty(ran.answer["shape"], np.uint16)
                filled = process.stdout.readinto(ran.pixels.reshape(-1).view(np.uint8).data)
                if filled < ran.pixels.nbytes:
                    process.kill()
            ran.returncode = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            watchdog.cancel()
            reader.join()
    ran.complaints = b"".join(log).decode(errors="replace")
    ran.timed_out = ran.returncode != 0 and time.monotonic() - started > seconds
    return ran


def _refusal(path: Path, reason: str) -> PhotoError:
    return PhotoError(f"{path}: LibRaw cannot develop it ({reason})", "convert it to DNG or TIFF")
