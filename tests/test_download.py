"""Pulling over a bad network: whatever a server does, no wrong file is ever taken."""

from __future__ import annotations

import os
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from email.message import Message
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme

from amsnet_cli.weights import connection
from tests.faulty_server import FAULTS, Server, serving
from tests.published_weights import CONTENT, entry, store

GIVES_UP = {
    "404", "403", "page", "altered", "shorter", "longer", "lies longer", "empty", "endless", "gzip",
    "to http", "to file", "to ftp", "round", "other bytes", "new file",
}  # fmt: skip
"""Faults after which asking the same server again is pointless; after the others it is not."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TIMEOUT", 0.2)
    monkeypatch.setattr(connection, "BACK_OFF", 0.0)


class TestFaults:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_once(self, amsnet, far, server, fault):
        """One fault, then a well-behaved server: either resumes, or says why not; never wrong."""
        server.plan = [fault]
        result = amsnet("weights", "pull", "far")
        if fault in GIVES_UP:
            assert result.exit_code == 4
            assert result.stderr.count("\n") == 1 and server.url() in result.stderr
            assert not far.exists()
            assert amsnet("weights", "pull", "far").exit_code == 0, "the next pull is well again"
        assert far.read_bytes() == CONTENT
        assert store() == ["far.json", "far.safetensors"]

    @pytest.mark.parametrize("fault", [f for f in FAULTS if f not in GIVES_UP])
    def test_for_ever(self, amsnet, far, server, fault):
        """A server that never does anything else ends in one error, and nothing is taken."""
        server.plan = [fault] * 100
        result = amsnet("weights", "pull", "far")
        assert len(server.asked) <= 2 * connection.ATTEMPTS
        assert far.exists() == (result.exit_code == 0)
        if far.exists():
            assert far.read_bytes() == CONTENT
        else:
            assert result.exit_code == 4 and "far.json" not in store()
            assert result.stderr.splitlines()[-1].startswith("error: cannot pull far")

    @pytest.mark.parametrize("fault", ["cut", "reset", "stall", "drip"])
    def test_goes_on_where_it_broke_off(self, amsnet, far, server, fault):
        server.plan = [fault]
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert server.asked[0][1] is None
        assert int(server.asked[1][1].removeprefix("bytes=").rstrip("-")) > 0

    def test_a_file_that_changes_midway_is_not_mixed(self, amsnet, far, server):
        server.plan = ["cut", "new file", "well"]
        result = amsnet("weights", "pull", "far")
        assert result.exit_code == 4 and "expected sha256" in result.stderr
        assert not far.exists()
        server.plan = ["cut"]  # with another ETag than the half that was kept
        assert amsnet("weights", "pull", "far").exit_code == 0

    def test_a_file_that_changes_behind_its_etag_is_not_mixed(self, amsnet, far, server):
        server.plan = ["cut", "404"]
        server.content = bytes(reversed(CONTENT))
        assert amsnet("weights", "pull", "far").exit_code == 4
        server.content = CONTENT
        server.asked.clear()
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert far.read_bytes() == CONTENT
        assert [r for _, r in server.asked] == [f"bytes={len(CONTENT) // 2}-", None]

    def test_a_lying_range_is_made_good_once(self, amsnet, far, server):
        server.plan = ["cut", "other bytes", "well"]
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert far.read_bytes() == CONTENT
        amsnet("weights", "remove", "far", "-y")
        server.asked.clear()
        server.plan = ["cut", "other bytes"] * 10
        assert amsnet("weights", "pull", "far").exit_code == 4
        assert len(server.asked) <= 4

    def test_any_order_of_faults(self, amsnet, far, server):
        """12 pulls, each through up to 8 faults drawn at random."""
        draw = random.Random(7)
        quick = [f for f in FAULTS if f not in ("silent", "stall", "drip")]
        for _ in range(12):
            server.plan = [draw.choice(quick) for _ in range(draw.randint(1, 8))]
            faults = list(server.plan)
            result = amsnet("weights", "pull", "far", "-q")
            assert result.exit_code in (0, 4), faults
            assert far.exists() == (result.exit_code == 0), faults
            if far.exists():
                assert far.read_bytes() == CONTENT, faults
                amsnet("weights", "remove", "far", "-y")
        server.plan = []
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert far.read_bytes() == CONTENT

    def test_a_failed_pull_keeps_what_was_there(self, amsnet, far, server):
        amsnet("weights", "pull", "far")
        server.plan = ["altered"]
        assert amsnet("weights", "pull", "far", "--force").exit_code == 4
        assert amsnet("weights", "verify", "far").exit_code == 0
        assert store() == ["far.json", "far.safetensors"]


class TestRetryAfter:
    """A server that says when to come back is heard, within bounds."""

    @pytest.mark.parametrize(("code", "form"), [("429", "seconds"), ("503", "date")])
    def test_is_waited_for(self, amsnet, far, server, code, form):
        server.plan = [code]
        date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=2.5), usegmt=True)
        server.refusal = {"Retry-After": "2" if form == "seconds" else date}
        since = time.monotonic()
        result = amsnet("weights", "pull", "far")
        assert result.exit_code == 0 and f"answers {code}" in result.stderr
        assert f"trying again in {'2' if form == 'seconds' else ''}" in result.stderr
        assert 1.0 < time.monotonic() - since < 10 and len(server.asked) == 2

    def test_too_long_is_not_and_another_source_is_asked(self, amsnet, publish, server):
        publish(entry(server.url("/a"), server.url("/b")))
        server.plan, server.refusal = ["429"], {"Retry-After": "3600"}
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert [path for path, _ in server.asked] == ["/a", "/b"]

    @pytest.mark.parametrize("after", ["61", "999999999", "Fri, 31 Dec 2100 23:59:59 GMT"])
    def test_too_long_ends_in_one_line(self, amsnet, far, server, after):
        server.plan, server.refusal = ["503"] * 9, {"Retry-After": after}
        result = amsnet("weights", "pull", "far")
        assert result.exit_code == 4 and len(server.asked) == 1 and not far.exists()
        assert result.stderr.count("\n") == 1
        assert "503" in result.stderr and "asks to wait for" in result.stderr

    @pytest.mark.parametrize(
        "after",
        ["0", "-15", "15.5", "soon", "", "9" * 5000, "Thu, 1 Jan 1970 00:00:00 GMT", "1 Jan 99999"],
    )
    def test_nonsense_and_the_past_are_passed_over(self, amsnet, far, server, after):
        server.plan, server.refusal = ["429"], {"Retry-After": after}
        since = time.monotonic()
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert time.monotonic() - since < 10

    def test_a_clock_that_is_wrong_does_not_matter(self):
        """The server's dates are compared with each other."""
        headers = Message()
        headers["Date"] = "Thu, 01 Jan 1970 00:00:00 GMT"
        headers["Retry-After"] = "Thu, 01 Jan 1970 00:00:07 GMT"
        assert connection._retry_after(headers) == 7


class TestSources:
    def test_in_turn_the_mirror_first(self, amsnet, publish, server, monkeypatch):
        publish(entry(server.url("/gone"), server.url("/far")))
        monkeypatch.setenv("AMSNET_MIRROR", server.url("/mirror/"))
        server.plan = ["404", "page", "well"]
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert [p for p, _ in server.asked] == ["/mirror/far.safetensors", "/gone", "/far"]

    def test_a_mirror_where_nobody_listens(self, amsnet, far, server, monkeypatch):
        monkeypatch.setenv("AMSNET_MIRROR", "http://127.0.0.1:9/")
        result = amsnet("weights", "pull", "far")
        assert result.exit_code == 0 and "no connection" in result.stderr
        assert [p for p, _ in server.asked] == ["/far"]

    def test_another_source_goes_on_with_what_one_has_sent(self, amsnet, publish, server):
        publish(entry(server.url("/a"), server.url("/b")))
        server.plan = ["cut", *["503"] * 4]
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert server.asked[-1] == ("/b", f"bytes={len(CONTENT) // 2}-")

    @pytest.mark.parametrize(
        "source",
        ["http://192.0.2.1/far", "http://[::1/far", "http://127.0.0.1:port/far", "http://x y/"],
    )
    def test_addresses_that_are_not_followed(self, amsnet, publish, source):
        publish(entry(source))
        result = amsnet("weights", "pull", "far")
        assert result.exit_code == 4
        assert "is not an" in result.stderr and result.stderr.count("\n") == 1

    @pytest.mark.parametrize("source", ["file:///etc/hostname", "ftp://127.0.0.1/x", "/etc/hosts"])
    def test_only_http_is_spoken(self, amsnet, publish, source):
        publish(entry(source))
        assert "is not an https address" in amsnet("weights", "pull", "far").stderr

    def test_a_plain_mirror_is_for_files_with_a_digest(self, amsnet, publish, monkeypatch):
        monkeypatch.setattr(connection, "ATTEMPTS", 1)
        monkeypatch.setenv("AMSNET_MIRROR", "http://192.0.2.1:9")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # so that nothing leaves this test
        publish(entry())
        assert "no connection" in amsnet("weights", "pull", "far").stderr
        publish(entry(file={"name": "far.safetensors", "size": 1000}))
        result = amsnet("weights", "pull", "far", "--trust-first-use")
        assert "is not an https address" in result.stderr

    def test_offline_is_offline(self, amsnet, far, server, monkeypatch):
        monkeypatch.setenv("AMSNET_OFFLINE", "1")
        result = amsnet("weights", "pull", "far")
        assert result.exit_code == 4 and "AMSNET_OFFLINE" in result.stderr
        assert server.asked == []

    def test_proxies_of_the_environment(self, amsnet, publish, server, monkeypatch):
        publish(entry("http://127.0.0.1:9/far"))
        monkeypatch.setenv("http_proxy", server.url(""))
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert server.asked == [("http://127.0.0.1:9/far", None)]
        publish(entry("https://example.invalid/far"))
        monkeypatch.setenv("https_proxy", server.url(""))
        amsnet("weights", "remove", "far", "-y")
        assert amsnet("weights", "pull", "far").exit_code == 4
        assert server.asked[-1] == ("CONNECT example.invalid:443", None)


class TestHttps:
    @pytest.fixture
    def secure(self, server: Server, publish, tmp_path, monkeypatch) -> Path:
        """The server speaks https; returns the certificate that vouches for it."""
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
        publish(entry(server.url()))
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        return bundle

    def test_unknown_certificates_are_refused(self, amsnet, secure):
        result = amsnet("weights", "pull", "far")
        assert result.exit_code == 4 and "no trusted certificate" in result.stderr
        assert store() == []

    @pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_certificates_of_the_environment(self, amsnet, secure, monkeypatch, name):
        monkeypatch.setenv(name, str(secure))
        assert amsnet("weights", "pull", "far").exit_code == 0

    def test_a_bundle_that_is_not_there(self, amsnet, secure, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nothing/here.pem")
        result = amsnet("weights", "pull", "far")
        assert result.exit_code == 4 and "REQUESTS_CA_BUNDLE" in result.stderr

    def test_no_way_back_to_plain_http(self, amsnet, secure, server, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(secure))
        with serving(CONTENT) as plain:
            server.plan, server.elsewhere = ["to elsewhere"], plain.url()
            result = amsnet("weights", "pull", "far")
            assert result.exit_code == 4 and "which is not followed" in result.stderr
            assert plain.asked == []


class TestKilled:
    """A process that dies at any moment leaves nothing wrong, and the next one resumes."""

    def pull(self, **kwargs) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "amsnet_cli", "weights", "pull", "far"]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs
        )

    def test_at_random_moments(self, far, server):
        server.rate = 2 << 20
        draw = random.Random(3)
        for number in [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]:
            asked = len(server.asked)
            process = self.pull()
            while len(server.asked) == asked and process.poll() is None:
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.12))
            process.send_signal(number)
            _, stderr = process.communicate(timeout=120)
            if process.returncode == 0:
                assert far.read_bytes() == CONTENT
                break
            assert not far.exists()
            assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
            assert "Traceback" not in stderr
        server.rate = 0
        process = self.pull()
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        assert Path(stdout.strip()) == far and far.read_bytes() == CONTENT
        starts = [
            int((r or "bytes=0-").removeprefix("bytes=").rstrip("-")) for _, r in server.asked
        ]
        assert starts == sorted(starts) and starts[-1] > 0, (
            "each resumes where the one before stopped"
        )
        assert store() == ["far.json", "far.safetensors"]

    def test_two_at_once(self, far, server):
        server.rate = 4 << 20
        both = [self.pull(), self.pull(), self.pull()]
        for process in both:
            stdout, stderr = process.communicate(timeout=180)
            assert process.returncode == 0, stderr
            assert Path(stdout.strip()) == far
        assert far.read_bytes() == CONTENT
        assert server.asked == [("/far", None)], "one downloads, the others wait"

    @pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
    def test_a_disk_that_is_full_midway(self, far):
        import resource

        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

        process = self.pull(preexec_fn=limited)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 1
        assert stderr.count("\n") == 1 and "make room" in stderr
        assert not far.exists()


class TestSpace:
    def test_a_disk_too_small_is_said_before_anything_is_asked(self, amsnet, publish, server):
        file = {"name": "far.safetensors", "size": 1 << 60, "sha256": "0" * 64}
        publish(entry(server.url(), file=file))
        result = amsnet("weights", "pull", "far")
        assert result.exit_code == 1 and "MB are needed" in result.stderr
        assert server.asked == []


def test_progress_counts_from_what_was_there_to_the_end(far, server):
    from amsnet_cli.weights.manifest import load_manifest
    from amsnet_cli.weights.pull import pull

    server.plan = ["cut"]
    seen: list[tuple[int, int | None]] = []
    notices: list[str] = []
    lock = threading.Lock()

    def progress(done: int, size: int | None) -> None:
        with lock:
            seen.append((done, size))

    pull(
        load_manifest().entry("far"), convert=lambda *_: None, progress=progress,
        notice=notices.append,
    )  # fmt: skip
    assert seen == sorted(seen) and seen[0][0] == 0 and seen[-1] == (len(CONTENT), len(CONTENT))
    assert (len(CONTENT) // 2, len(CONTENT)) in seen
    assert len(notices) == 1 and "trying again" in notices[0]
