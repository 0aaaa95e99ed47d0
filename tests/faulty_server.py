"""A real server on the loopback interface that does what bad networks do."""

from __future__ import annotations

import contextlib
import http.server
import socket
import struct
import threading
import time
from collections.abc import Iterator

FAULTS = (
    "cut", "reset", "silent", "stall", "drip", "garbage", "empty", "500", "503", "429", "404",
    "403", "page", "altered", "shorter", "longer", "lies longer", "endless", "broken chunks",
    "gzip", "no ranges", "wrong range", "wrong total", "other bytes", "416", "206 unasked",
    "new file", "to http", "to file", "to ftp", "round",
)  # fmt: skip


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at every path; each request meets the next fault of `plan`.

    Attributes:
        content: of the file.
        plan: faults to come, in order; then all is well.
        rate: bytes a second, or 0 for as fast as can be.
        asked: the path and the Range of every request.
        pages: bodies served as HTML under their paths, instead of the file.
        headers: further ones of the file.
        elsewhere: where "to elsewhere" redirects.
        refusal: headers of an answer that is an error.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.plan: list[str] = []
        self.rate = 0
        self.asked: list[tuple[str, str | None]] = []
        self.pages: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.elsewhere = ""
        self.refusal: dict[str, str] = {}
        self.release = threading.Event()
        self.scheme = "http"

    def url(self, path: str = "/far") -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request, client_address):
        """Clients that hang up are what this is for."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.close_connection = True
        self.server.asked.append((self.path, self.headers["Range"]))
        page = self.server.pages.get(self.path) or self.server.pages.get(self.path.split("?")[0])
        if page is not None:
            self.answer(200, page.encode(), {"Content-Type": "text/html; charset=utf-8"})
            return
        if self.path == "/round":
            fault = "round"
        else:
            fault = self.server.plan.pop(0) if self.server.plan else "well"
        content, tag = self.server.content, '"one"'
        match fault:
            case "500" | "503" | "429" | "404" | "403" | "416":
                self.answer(int(fault), b"no", self.server.refusal)
                return
            case "page":
                self.answer(200, b"<html>Too many users</html>", {"Content-Type": "text/html"})
                return
            case "to http" | "to file" | "to ftp" | "to elsewhere" | "round":
                to = {"to http": "http://192.0.2.1/far", "to file": "file:///etc/hostname",
                      "to ftp": "ftp://127.0.0.1/far", "round": "/round",
                      "to elsewhere": self.server.elsewhere}[fault]  # fmt: skip
                self.answer(302, b"", {"Location": to})
                return
            case "garbage":
                self.wfile.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
                return
            case "silent":
                self.server.release.wait(5)
                return
            case "altered":
                content = content[:-1] + bytes([content[-1] ^ 1])
            case "shorter":
                content = content[: len(content) // 3]
            case "longer":
                content = content + b"more"
            case "new file":
                content, tag = bytes(reversed(content)), '"two"'
        start = self.start_of_range(fault, tag)
        body = content[start:]
        headers = {"ETag": tag, "Content-Type": "application/octet-stream", **self.server.headers}
        if fault == "endless" or fault == "broken chunks":
            self.chunked(body, headers, endless=fault == "endless")
            return
        length = len(body) + (1000 if fault == "lies longer" else 0)
        if fault == "empty":
            body, length = b"", 0
        if fault == "gzip":
            headers["Content-Encoding"] = "gzip"
        if fault == "other bytes":
            body = bytes(len(body))
        if start or fault == "206 unasked":
            shown = start + (7 if fault == "wrong range" else 0)
            total = len(content) + (7 if fault == "wrong total" else 0)
            headers["Content-Range"] = f"bytes {shown}-{total - 1}/{total}"
        self.send_response(206 if "Content-Range" in headers else 200)
        for key, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(key, value)
        self.end_headers()
        self.send_body(body, fault)

    def start_of_range(self, fault: str, tag: str) -> int:
        wanted = self.headers["Range"]
        if not wanted or fault == "no ranges":
            return 0
        if self.headers["If-Range"] not in (None, tag):
            return 0
        return int(wanted.removeprefix("bytes=").rstrip("-"))

    def send_body(self, body: bytes, fault: str) -> None:
        half = len(body) // 2
        match fault:
            case "cut":
                self.wfile.write(body[:half])
            case "reset":
                self.wfile.write(body[:half])
                self.wfile.flush()
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            case "stall":
                self.wfile.write(body[:half])
                self.wfile.flush()
                self.server.release.wait(5)
            case "drip":
                for i in range(200):
                    self.wfile.write(body[i : i + 1])
                    self.wfile.flush()
                    if self.server.release.wait(0.02):
                        return
            case _ if self.server.rate:
                block = 16 * 1024
                for i in range(0, len(body), block):
                    self.wfile.write(body[i : i + block])
                    time.sleep(block / self.server.rate)
            case _:
                self.wfile.write(body)

    def chunked(self, body: bytes, headers: dict[str, str], *, endless: bool) -> None:
        self.send_response(200)
        for key, value in {**headers, "Transfer-Encoding": "chunked"}.items():
            self.send_header(key, value)
        self.end_headers()
        for _ in range(64 if endless else 1):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
        self.wfile.write(b"0\r\n\r\n" if endless else b"fff\r\n")

    def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self):
        self.server.asked.append((f"CONNECT {self.path}", None))
        self.answer(403, b"no tunnels here")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(content: bytes) -> Iterator[Server]:
    server = Server(content)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
