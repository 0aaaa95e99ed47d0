"""Photos in stores by URL: in memory, on a real server that speaks S3, on one that breaks off."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo

fsspec = pytest.importorskip("fsspec", reason="needs pip install 'amsnet[remote]'")


@pytest.fixture
def here(tmp_path, noisy_crop) -> Path:
    for name in ("a.png", "x/b.jpg", "x/y/c.tif"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        write_photo(
            Photo(pixels=np.ascontiguousarray(noisy_crop[:40, :50])), tmp_path / "in" / name
        )
    (tmp_path / "in" / "x" / "bad.png").write_bytes(b"junk")
    (tmp_path / "in" / "notes.txt").write_bytes(b"text")
    return tmp_path


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def upload(here: Path, store, root: str) -> None:
    for path in (here / "in").rglob("*.*"):
        store.pipe_file(f"{root}/{path.relative_to(here / 'in').as_posix()}", path.read_bytes())


def check_as_with_files(amsnet, here: Path, model: Path, store, url: str, root: str) -> None:
    """The same lines, errors and bytes, and every second run skips what is there."""
    call = ["denoise", "-r", "-w", model, "--json"]
    local = amsnet(*call, here / "in", "-o", here / "out")
    remote = amsnet(*call, f"{url}/in", "-o", f"{url}/out")
    assert local.exit_code == remote.exit_code == 3, remote.stderr

    def facts(stdout: str, place: str) -> list[tuple[object, ...]]:
        rows = map(json.loads, stdout.replace(place, "").splitlines())
        return [(r["input"], r["output"], r["status"], r.get("error")) for r in rows]

    assert facts(remote.stdout, url) == facts(local.stdout, str(here))
    assert "amsnet-" not in remote.stdout + remote.stderr
    written = {
        path.relative_to(here / "out").as_posix(): path.read_bytes()
        for path in (here / "out").rglob("*.*")
    }
    found = {k.partition("/out/")[2]: store.cat_file(k) for k in store.find(f"{root}/out")}
    assert found == written and len(found) == 3
    refused = amsnet(*call, f"{url}/in", "-o", f"{url}/out")
    assert refused.exit_code == 1 and f"{url}/out/a.png (and 2 more results)" in refused.stderr
    again = amsnet(*call, f"{url}/in", "-o", f"{url}/out", "--skip-existing")
    assert [json.loads(line)["status"] for line in again.stdout.splitlines()].count("skipped") == 3


def test_in_memory(amsnet, here, tiny_model, memory):
    upload(here, memory, "/bucket/in")
    check_as_with_files(amsnet, here, tiny_model, memory, "memory://bucket", "/bucket")


def test_one_photo_to_and_from_a_folder(amsnet, here, tiny_model, memory):
    upload(here, memory, "/bucket/in")
    done = amsnet("denoise", "memory://bucket/in/a.png", "-o", here / "one.png", "-w", tiny_model)
    assert done.exit_code == 0 and (here / "one.png").is_file(), done.stderr
    done = amsnet("denoise", here / "in/a.png", "-o", "memory://bucket/one.png", "-w", tiny_model)
    assert done.exit_code == 0 and done.stdout == "memory://bucket/one.png\n", done.stderr
    assert memory.cat_file("/bucket/one.png") == (here / "one.png").read_bytes()


def test_where_a_put_is_not_atomic_a_result_gets_its_name_last(amsnet, here, tiny_model):
    """`file://` goes the way of sftp: a part, renamed."""
    result = amsnet(
        "denoise", "-r", f"file://{here}/in", "-o", f"file://{here}/out", "-w", tiny_model
    )
    assert result.exit_code == 3, result.stderr
    names = sorted(p.relative_to(here / "out").as_posix() for p in (here / "out").rglob("*.*"))
    assert names == ["a.png", "x/b.jpg", "x/y/c.tif"], "no part is left"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["memory://bucket/none", "-o", "out"], 1, "memory://bucket/none: nothing there"),
        (["foo://bucket/in", "-o", "out"], 2, "foo://bucket/in: not a URL of a store"),
        (["memory://b/in", "-o", "out", "--dask", "local"], 2, "--dask needs files, not URLs"),
        (["memory://b/in", "-o", "out", "--watch"], 2, "--watch needs files, not URLs"),
        (["in", "-o", "memory://b/out", "--sidecar"], 2, "--sidecar needs files, not URLs"),
    ],
)
def test_what_cannot_be_is_one_line(amsnet, here, memory, monkeypatch, arguments, code, says):
    monkeypatch.chdir(here)
    result = amsnet("denoise", *arguments)
    assert result.exit_code == code and says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_two_keys_that_become_one_name_are_refused_by_their_urls(amsnet, memory):
    for name in ("a.jpg", "A.JPG"):
        memory.pipe_file(f"/bucket/in/{name}", b"x")
    result = amsnet("denoise", "memory://bucket/in", "-o", "memory://bucket/out")
    assert result.exit_code == 2 and "memory://bucket/in/A.JPG and memory://b" in result.stderr


@contextmanager
def in_front_of(port: int, *, delay: float = 0.0, cut: int | None = None, times: int = 10**9):
    """A server that passes connections on: slowly, or cut off after some bytes of the answer."""
    left = [times]

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            left[0] -= 1
            limit = cut if left[0] >= 0 else None
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as behind:
                threading.Thread(target=self.pass_on, daemon=True, args=(behind,)).start()
                passed = 0
                while data := behind.recv(4096):
                    time.sleep(delay)
                    if limit is not None and passed + len(data) > limit:
                        self.request.sendall(data[: max(0, limit - passed)])
                        return
                    self.request.sendall(data)
                    passed += len(data)

        def pass_on(self, behind: socket.socket) -> None:
            with suppress(OSError):
                while data := self.request.recv(4096):
                    behind.sendall(data)
                behind.shutdown(socket.SHUT_WR)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, allow_reuse_address = True, True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def s3(monkeypatch, tmp_path):
    """A function that returns the store behind a port; the port of a server that speaks S3."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server", reason="needs pip install 'amsnet[test]'")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_MAX_ATTEMPTS": "3",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)

    def at(place: int):
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{place}")
        return s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)

    at(port).mkdir("bucket")
    yield at, port
    at(port).rm("bucket", recursive=True)  # All servers of a process share what they hold.
    server.stop()


@pytest.mark.slow
class TestS3:
    def test_a_whole_tree(self, amsnet, here, tiny_model, s3):
        at, port = s3
        store = at(port)
        upload(here, store, "bucket/in")
        check_as_with_files(amsnet, here, tiny_model, store, "s3://bucket", "bucket")

    def test_a_slow_server_that_breaks_off_at_times(self, amsnet, here, tiny_model, s3):
        at, port = s3
        upload(here, at(port), "bucket/in")
        with in_front_of(port, delay=0.05, cut=600, times=2) as place:
            store = at(place)
            result = amsnet("denoise", "-r", "s3://bucket/in", "-o", "s3://bucket/out",
                            "-w", tiny_model)  # fmt: skip
        assert result.exit_code == 3, result.stderr
        assert "3 of 4 photos denoised" in result.stderr
        store = at(port)
        local = amsnet("denoise", "-r", here / "in", "-o", here / "out", "-w", tiny_model)
        assert local.exit_code == 3
        for key in store.find("bucket/out"):
            name = key.removeprefix("bucket/out/")
            assert store.cat_file(key) == (here / "out" / name).read_bytes()

    def test_a_server_that_always_breaks_off_is_an_error_and_leaves_nothing(
        self, amsnet, here, tiny_model, s3
    ):
        at, port = s3
        upload(here, at(port), "bucket/in")
        with in_front_of(port, cut=100) as place:
            at(place)
            result = amsnet("denoise", "-r", here / "in", "-o", "s3://bucket/out",
                            "-w", tiny_model)  # fmt: skip
        assert result.exit_code == 1, result.stderr
        assert "error: s3://bucket/out" in result.stderr and "Traceback" not in result.stderr
        assert at(port).find("bucket/out") == []

    def test_a_bucket_that_is_not_there(self, amsnet, here, tiny_model, s3):
        at, port = s3
        at(port)
        result = amsnet("denoise", here / "in" / "a.png", "-o", "s3://other/out/", "-w", tiny_model)
        assert result.exit_code == 1 and "s3://other/out/a.png: cannot be written" in result.stderr
