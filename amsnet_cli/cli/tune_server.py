"""Serve the page of `amsnet tune` to this computer alone, and write the result it asks for."""

from __future__ import annotations

import json
import secrets
import sys
import webbrowser
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import typer

from amsnet_cli.cli.console import complain, say
from amsnet_cli.errors import AmsnetError, UsageError

LONGEST_WISH = 4096
"""Bytes of a request."""


def serve_page(
    page: bytes,
    photo: Path,
    output: Path,
    weights: Sequence[str | None],
    *,
    device: str,
    show: bool,
    quiet: bool,
) -> None:
    """Serve a page on the loopback address until Ctrl-C.

    Its address has a secret part, and only requests to that address by its own name are answered,
    so that neither other users nor other pages in the browser can write.

    Args:
        page: HTML.
        photo: that the page shows.
        output: where its button writes the result; replaced from the second time on.
        weights: of the page's choices; None for the default.
        device: as for `amsnet denoise`.
        show: open the page in the browser.
        quiet: do not say the address.
    """

    class Handler(_Handler):
        content = page

        def write(self, wish: dict[str, Any]) -> str:
            _denoise(photo, output, weights, wish, device)
            return f"written: {output}"

    with _Server(("127.0.0.1", 0), Handler) as server:
        Handler.host = f"127.0.0.1:{server.server_port}"
        Handler.folder = f"/{secrets.token_urlsafe(16)}/"
        address = f"http://{Handler.host}{Handler.folder}"
        if not quiet:
            say(f"the page is at {address} until Ctrl-C")
        if show:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


class _Server(HTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show the traceback of a bug; a browser that has gone away meanwhile is none."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    host, folder, content = "", "", b""
    timeout = 10  # A request that does not come to its end must not hold the others up.

    def write(self, wish: dict[str, Any]) -> str:
        raise NotImplementedError

    def do_GET(self) -> None:
        if self._known(self.folder):
            self._reply(HTTPStatus.OK, self.content, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        if not self._known(f"{self.folder}write"):
            return
        status = HTTPStatus.BAD_REQUEST
        try:
            length = int(self.headers.get("Content-Length", "0"))
            if self.headers.get("Content-Type") != "application/json" or not (
                0 < length <= LONGEST_WISH
            ):
                raise UsageError("not a request of the page")
            message = self.write(json.loads(self.rfile.read(length)))
            status = HTTPStatus.OK
        except AmsnetError as error:
            complain(error)
            message = f"failed: {error}"
        except (ValueError, TypeError, KeyError, IndexError):
            message = "failed: not a request of the page"
        self._reply(status, json.dumps({"message": message}).encode(), "application/json")

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def _known(self, path: str) -> bool:
        if self.headers.get("Host") == self.host and secrets.compare_digest(
            self.path.encode(), path.encode()
        ):
            return True
        self._reply(HTTPStatus.NOT_FOUND, b"nothing here", "text/plain")
        return False

    def _reply(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind), ("Content-Length", str(len(content))),
            ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _denoise(
    photo: Path,
    output: Path,
    weights: Sequence[str | None],
    wish: dict[str, Any],
    device: str,
) -> None:
    """Run `amsnet denoise` with what a page asks for.

    Raises:
        ValueError, TypeError, KeyError, IndexError: the request is malformed.
        UsageError: the photo could not be denoised; the reason has been printed.
    """
    from amsnet_cli.cli.denoise import denoise

    strengths = {name: _share(wish[name]) for name in ("luma", "chroma", "detail")}
    choice = wish["choice"]
    if type(choice) is not int or choice < 0:
        raise ValueError("no choice")
    detail = strengths.pop("detail") or 0.0
    try:
        denoise(
            [str(photo)], output=str(output), weights=weights[choice], detail=detail,
            device=device, force=True, quiet=True, **strengths,  # type: ignore[arg-type]
        )  # fmt: skip
    except typer.Exit as ended:
        if ended.exit_code:
            raise UsageError(f"{photo}: not denoised", "the terminal says why") from None


def _share(value: object) -> float | None:
    if value is None:
        return None
    share = float(value) if isinstance(value, int | float) else -1.0
    if not 0 <= share <= 1:
        raise ValueError("not a share")
    return share
