"""Download a file into a `.part` file, which a later call resumes."""

from __future__ import annotations

import http
import http.client
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from amsnet_cli.weights import connection
from amsnet_cli.weights.connection import (
    NoSuchRangeError,
    SourceError,
    TransientError,
    open_url,
)
from amsnet_cli.weights.manifest import PublishedFile

MIN_BYTES = 16 * 1024
"""Bytes that must arrive every `connection.TIMEOUT` seconds; a slower connection is dropped."""
READ_SIZE = 1 << 18
"""Bytes per read."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def fetch(
    url: str,
    part: Path,
    *,
    origin: str,
    file: PublishedFile,
    allow_http: bool,
    progress: Callable[[int, int | None], None],
) -> bool:
    """Download a file, or resume an interrupted download.

    Earlier bytes are kept if the server confirms that its file is unchanged (If-Range), or if the
    file's digest is known. Only the length is checked here.

    Args:
        url: of the file.
        part: the bytes so far; `part` + ".json" records which file they are from.
        origin: where the file is published; `url` may differ from call to call.
        file: the expected file.
        allow_http: see `open_url`.
        progress: called with the bytes done and the total, None if unknown.

    Returns:
        Whether bytes of an earlier call were kept.

    Raises:
        TransientError: the connection broke, stalled or was too slow; the part is kept.
        SourceError: the server sends another file.
    """
    start, validator = _resume_point(part, origin, file)
    if start == file.size:
        return True
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and validator:
        headers["If-Range"] = validator
    try:
        with open_url(url, headers, allow_http=allow_http) as response:
            now = _validator(response)
            resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
            if resumed and not (_continues(response, start) and validator in ("", now)):
                discard(part)
                raise TransientError("the server sends another range than requested")
            _check_headers(response)
            length = response.headers.get("Content-Length", "")
            total = (start if resumed else 0) + int(length) if length.isdecimal() else None
            if total is not None and total > file.size_limit:
                raise SourceError(f"expected at most {file.size_limit} bytes, got {total}")
            if None not in (file.size, total) and total != file.size:
                raise SourceError(f"expected {file.size} bytes, got {total}")
            if not resumed:
                part.write_bytes(b"")
                state = json.dumps({"origin": origin, "validator": now})
                _state_path(part).write_text(state, "utf-8")
            with part.open("ab") as out:
                done = _stream(response, out, file.size_limit, total, progress)
            if done > file.size_limit:
                discard(part)
                raise SourceError(f"expected at most {file.size_limit} bytes, got more")
    except NoSuchRangeError:
        discard(part)
        raise
    expected = file.size or total
    if expected is not None and done < expected:
        raise TransientError(f"the connection broke after {done} of {expected} bytes")
    return resumed


def discard(part: Path) -> None:
    """Delete a partial download."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def _stream(
    response: http.client.HTTPResponse,
    out: IO[bytes],
    limit: int,
    total: int | None,
    progress: Callable[[int, int | None], None],
) -> int:
    """Append the body, stopping just beyond `limit`; return the size of the file."""
    done = out.seek(0, os.SEEK_END)
    checked_at, checked_done = time.monotonic(), done
    progress(done, total)
    while done <= limit and (block := response.read1(READ_SIZE)):
        done += len(block)
        out.write(block)
        progress(done, total)
        if time.monotonic() - checked_at > connection.TIMEOUT:
            if done - checked_done < MIN_BYTES:
                raise TransientError(f"less than {MIN_BYTES} bytes in {connection.TIMEOUT:g} s")
            checked_at, checked_done = time.monotonic(), done
    out.flush()
    os.fsync(out.fileno())
    return done


def _resume_point(part: Path, origin: str, file: PublishedFile) -> tuple[int, str]:
    """Return the offset to resume from, and the validator of the bytes before it."""
    if part.is_symlink() or (part.exists() and part.stat().st_size > file.size_limit):
        discard(part)
    size = part.stat().st_size if part.exists() else 0
    try:
        state = json.loads(_state_path(part).read_text("utf-8"))
        validator = state["validator"] if state["origin"] == origin else ""
    except (OSError, ValueError, KeyError, TypeError):
        validator = ""
    if not (isinstance(validator, str) and validator.isprintable()):
        validator = ""
    return (size, validator) if validator or file.pinned else (0, "")


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _validator(response: http.client.HTTPResponse) -> str:
    """Validator for If-Range: a strong ETag, else the date of the last change."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _continues(response: http.client.HTTPResponse, start: int) -> bool:
    match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return bool(start and match and int(match[1]) == start)


def _check_headers(response: http.client.HTTPResponse) -> None:
    if response.headers.get_content_type() == "text/html":
        raise SourceError("answers with a web page instead of the file")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceError("sends the file compressed, which was not requested")
