"""HTTP connections to the sources of weights: allowed addresses, retries, proxies, certificates.

Allowed are:

- https to any host;
- http to this machine (loopback), and for files with a known digest to the user's mirror;
- redirects to https, and from http to http on the same host, but never to a local file.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import ipaddress
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

TIMEOUT = 30.0
"""Seconds to wait for a response, or for its next bytes."""
ATTEMPTS = 5
"""Attempts at one source."""
BACK_OFF = 1.0
"""Seconds before the second attempt; doubled before each further one."""
LONGEST_WAIT = 60.0
"""Longest `Retry-After` in seconds that is respected; a source that asks for more is given up."""

_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}

T = TypeVar("T")


class SourceError(Exception):
    """A source has failed permanently; another one may work."""


class TransientError(SourceError):
    """A source has failed temporarily; another attempt may work.

    Args:
        reason: for the message.
        wait: seconds until the next attempt that the server asks for.
    """

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class NoSuchRangeError(TransientError):
    """The server's file is shorter than the part to resume."""


def retrying(action: Callable[[], T], source: str, notice: Callable[[str], None]) -> T:
    """Call `action`, and repeat it after growing pauses while it raises `TransientError`.

    Args:
        action: the call to repeat.
        source: its address, for `notice`.
        notice: called with a line for the user before each retry.

    Raises:
        SourceError: the source failed permanently or `ATTEMPTS` times, or asks to wait for more
            than `LONGEST_WAIT`.
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
    url: str, headers: dict[str, str] | None = None, *, allow_http: bool = False
) -> Iterator[http.client.HTTPResponse]:
    """Open an address.

    Proxies come from the environment, and so do certificates (SSL_CERT_FILE, SSL_CERT_DIR,
    REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE).

    Args:
        url: see the module's docstring for the allowed ones.
        headers: of the request.
        allow_http: whether http without TLS to another machine is allowed.

    Yields:
        The response, of status 200 or 206.

    Raises:
        TransientError: no connection, no response in time, a temporary failure of the server, or a
            connection that breaks while the caller reads.
        SourceError: the address is not allowed, or the server refuses.
    """
    parts = _parse_url(url)
    http_allowed = allow_http or _is_loopback(parts)
    if parts.scheme != "https" and not (parts.scheme == "http" and http_allowed):
        raise SourceError(f"{url} is not an https address")
    agent = {"User-Agent": "amsnet", "Accept-Encoding": "identity"}
    try:
        request = urllib.request.Request(url, headers={**agent, **(headers or {})})
        with _opener().open(request, timeout=TIMEOUT) as response:
            yield response
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise NoSuchRangeError("the server's file is shorter than the part here") from error
            answer = f"the server answers {error.code} {error.reason}"
            if error.code in _TRANSIENT:
                raise TransientError(answer, _retry_after(error.headers)) from error
            raise SourceError(answer) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise SourceError(f"no trusted certificate ({error.reason.verify_message})") from error
        raise TransientError(f"no connection ({error.reason})") from error
    except TimeoutError as error:
        raise TransientError(f"no data for {TIMEOUT:g} s") from error
    except http.client.InvalidURL as error:
        raise SourceError(f"{url} is not an address ({error})") from error
    except (ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
        raise TransientError(f"the connection broke ({error or type(error).__name__})") from error


def _retry_after(headers: Message) -> float:
    """Seconds of a `Retry-After` header (RFC 9110, 10.2.3); 0 if it is missing or malformed."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", value, re.ASCII):
        return float(value)
    until = _parse_date(value)
    # Compared with the server's clock if possible, as the clock of this machine may be wrong.
    now = _parse_date(headers.get("Date", "")) or datetime.now(timezone.utc)
    return max(0.0, (until - now).total_seconds()) if until else 0.0


def _parse_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)


def _parse_url(url: str) -> SplitResult:
    try:
        if url.isascii() and url.isprintable() and " " not in url:
            return urlsplit(url)
    except ValueError:
        pass
    raise SourceError(f"{url!r} is not an address")


def _is_loopback(url: SplitResult) -> bool:
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
        new, old = _parse_url(newurl), _parse_url(req.full_url)
        same_host = new.scheme == old.scheme == "http" and new.hostname == old.hostname
        if new.scheme != "https" and not same_host:
            raise SourceError(f"redirects to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https only, without file:, ftp: and data:."""
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
