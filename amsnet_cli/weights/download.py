"""Fetch a file over HTTP into a `.part` file that a later call goes on with.

Which addresses are followed:

- https anywhere;
- http to this machine itself (loopback), and to the mirror that the user has named, for files
  whose digest is known;
- a redirect leads to https, or stays on http at the same host. Nothing leads to a local file.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import ipaddress
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import SplitResult, urlsplit

from amsnet_cli.errors import WeightsError
from amsnet_cli.weights.manifest import File

TIMEOUT = 30.0
"""Seconds without an answer, or with less than `SLOWEST` bytes, until a connection is given up."""
SLOWEST = 16 * 1024
ATTEMPTS = 5
BACK_OFF = 1.0
"""Seconds before the second attempt at a source; twice as many before each further one."""
LONGEST_WAIT = 60.0
"""Seconds that a server may ask to be left alone; of one that asks for more nothing is awaited."""
BLOCK = 1 << 18

_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

T = TypeVar("T")


class SourceError(Exception):
    """Why a source does not do; another one may."""


class TransientError(SourceError):
    """Why a source did not do just now; it may in a moment.

    Args:
        why: in words.
        wait: seconds that the server asks to be left alone before the next attempt.
    """

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class NoSuchRangeError(TransientError):
    """The server's file is shorter than what was to be continued."""


def retrying(action: Callable[[], T], source: str, notice: Callable[[str], None]) -> T:
    """Call `action` again, after longer and longer pauses, while it fails by a `TransientError`.

    Raises:
        SourceError: it failed otherwise, or `ATTEMPTS` times, or asks for longer than
            `LONGEST_WAIT`.
    """
    for attempt in range(ATTEMPTS):
        try:
            return action()
        except TransientError as error:
            if attempt + 1 == ATTEMPTS:
                raise SourceError(f"{error}, given up after {ATTEMPTS} attempts") from error
            if error.wait > LONGEST_WAIT:
                raise SourceError(f"{error} and asks to wait for {error.wait:.0f} s") from error
            pause = max(BACK_OFF * 2**attempt, error.wait)
            notice(f"{source}: {error}; trying again in {pause:.0f} s")
            time.sleep(pause)
    raise AssertionError("unreachable")


@contextlib.contextmanager
def open_url(
    url: str, headers: dict[str, str] | None = None, *, plain: bool = False
) -> Iterator[http.client.HTTPResponse]:
    """Ask for an address.

    Proxies come from the environment, and so do certificates (SSL_CERT_FILE, SSL_CERT_DIR,
    REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE).

    Args:
        url: see the module's docstring for which are followed.
        headers: of the request.
        plain: whether http to another machine is allowed.

    Yields:
        The response, of status 200 or 206.

    Raises:
        TransientError: no connection, no answer in time, the server is out of order just now, or it
            breaks off while the caller reads.
        SourceError: the address or the answer is of no use.
    """
    parts = _parse(url)
    if not (parts.scheme == "https" or (parts.scheme == "http" and (plain or _loopback(parts)))):
        raise SourceError(f"{url} is not an https address")
    agent = {"User-Agent": "amsnet", "Accept-Encoding": "identity"}
    try:
        request = urllib.request.Request(url, headers={**agent, **(headers or {})})
        with _opener().open(request, timeout=TIMEOUT) as response:
            yield response
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise NoSuchRangeError(
                    "the server's file is shorter than what came before"
                ) from error
            answer = f"the server answers {error.code} {error.reason}"
            if error.code in _TRANSIENT:
                raise TransientError(answer, _retry_after(error.headers)) from error
            raise SourceError(answer) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise SourceError(f"no trusted certificate ({error.reason.verify_message})") from error
        raise TransientError(f"no connection ({error.reason})") from error
    except TimeoutError as error:
        raise TransientError(f"nothing came for {TIMEOUT:g} s") from error
    except http.client.InvalidURL as error:
        raise SourceError(f"{url} is not an address ({error})") from error
    except (ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
        raise TransientError(f"the connection broke ({error or type(error).__name__})") from error


def fetch(
    url: str,
    part: Path,
    *,
    origin: str,
    file: File,
    plain: bool,
    progress: Callable[[int, int | None], None],
) -> bool:
    """Download a file, going on where an earlier call was cut off.

    The bytes that are there are kept if the server vouches that its file is still the same
    (If-Range), or if a digest will tell. What arrives is not checked here beyond its length.

    Args:
        url: of the file.
        part: bytes so far; `part` + ".json" says what they belong to.
        origin: where the file is published; `url` itself may change from call to call.
        file: what is expected.
        plain: see `open_url`.
        progress: called with bytes done and bytes in all, or None where no one says.

    Returns:
        Whether bytes of an earlier call were kept.

    Raises:
        TransientError: the connection broke, stalled or crept; what came is kept.
        SourceError: the server has something else.
    """
    start, validator = _resume_point(part, origin, file)
    if start == file.size:
        return True
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and validator:
        headers["If-Range"] = validator
    try:
        with open_url(url, headers, plain=plain) as response:
            now = _validator(response)
            resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
            if resumed and not (_continues(response, start) and validator in ("", now)):
                discard(part)
                raise TransientError("the server sends another part than asked for")
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
        raise TransientError(f"broke off after {done} of {expected} bytes")
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
    """Append the body, hardly beyond `limit`; return how many bytes there are now."""
    done = out.seek(0, os.SEEK_END)
    since, done_then = time.monotonic(), done
    progress(done, total)
    while done <= limit and (block := response.read1(BLOCK)):
        done += len(block)
        out.write(block)
        progress(done, total)
        if time.monotonic() - since > TIMEOUT:
            if done - done_then < SLOWEST:
                raise TransientError(f"less than {SLOWEST} bytes came in {TIMEOUT:g} s")
            since, done_then = time.monotonic(), done
    out.flush()
    os.fsync(out.fileno())
    return done


def _resume_point(part: Path, origin: str, file: File) -> tuple[int, str]:
    """Tell how many bytes there are to go on from, and what vouches for them."""
    if part.is_symlink() or (part.exists() and part.stat().st_size > file.size_limit):
        discard(part)
    have = part.stat().st_size if part.exists() else 0
    try:
        state = json.loads(_state_path(part).read_text("utf-8"))
        validator = state["validator"] if state["origin"] == origin else ""
    except (OSError, ValueError, KeyError, TypeError):
        validator = ""
    if not (isinstance(validator, str) and validator.isprintable()):
        validator = ""
    return (have, validator) if validator or file.pinned else (0, "")


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _validator(response: http.client.HTTPResponse) -> str:
    """What If-Range may quote: a strong ETag, else the time of the last change."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _continues(response: http.client.HTTPResponse, start: int) -> bool:
    match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return bool(start and match and int(match[1]) == start)


def _check_headers(response: http.client.HTTPResponse) -> None:
    if response.headers.get_content_type() == "text/html":
        raise SourceError("answers with a web page instead of the file")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceError("sends the file compressed, which was not asked for")


def _retry_after(headers: Message) -> float:
    """Seconds that a server asks to wait (RFC 9110, 10.2.3); 0 where it says nothing sensible."""
    asked = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", asked, re.ASCII):
        return float(asked)
    until = _time(asked)
    # Its own clock, if it tells, as ours may be wrong.
    now = _time(headers.get("Date", "")) or datetime.now(timezone.utc)
    return max(0.0, (until - now).total_seconds()) if until else 0.0


def _time(text: str) -> datetime | None:
    try:
        told = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return told if told.tzinfo else told.replace(tzinfo=timezone.utc)


def _parse(url: str) -> SplitResult:
    try:
        if url.isascii() and url.isprintable() and " " not in url:
            return urlsplit(url)
    except ValueError:
        pass
    raise SourceError(f"{url!r} is not an address")


def _loopback(url: SplitResult) -> bool:
    host = url.hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str,
        headers: http.client.HTTPMessage, newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        there, here = _parse(newurl), _parse(req.full_url)
        stays = there.scheme == here.scheme == "http" and there.hostname == here.hostname
        if there.scheme != "https" and not stays:
            raise SourceError(f"redirects to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener that knows http and https alone: no file:, no ftp:, no data:."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=_certificates()),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _certificates() -> ssl.SSLContext:
    context = ssl.create_default_context()  # follows SSL_CERT_FILE and SSL_CERT_DIR
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if bundle := os.environ.get(variable):
            try:
                folder = bundle if Path(bundle).is_dir() else None
                context.load_verify_locations(None if folder else bundle, folder)
            except OSError as error:
                raise WeightsError(
                    f"{variable}: no certificates in {bundle} ({error})", "set it to a PEM file"
                ) from error
            break
    return context
