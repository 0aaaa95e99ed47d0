from __future__ import annotations

import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest

from amsnet_cli.errors import WeightsError
from amsnet_cli.model import load_model
from amsnet_cli.weights.manifest import bundled_path, load_manifest
from amsnet_cli.weights.store import find_weights, models_dir, sha256_of, weights_dir

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Server(http.server.ThreadingHTTPServer):
    """A loopback server that behaves as `how` says."""

    how = "well"
    asked: list[str]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.asked.append(self.path)
        content, length = CONTENT, len(CONTENT)
        if self.server.how == "missing":
            self.send_error(404)
            return
        if self.server.how == "truncated":
            content = CONTENT[:300_000]
        if self.server.how == "short":
            content = CONTENT[:300_000]
            length = len(content)
        if self.server.how == "altered":
            content = CONTENT[:-1] + b"!"
        if self.server.how == "endless":
            content = CONTENT * 3
            length = len(content)
        if self.server.how == "page":
            content = b"<html>Too many users</html>"
            length = len(content)
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def manifest(tmp_path, server, monkeypatch) -> Path:
    """A manifest of one entry, `far`, on the loopback server."""
    entry = {
        "name": "far", "title": "from far away", "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(), "bundled": False,
        "sources": [f"http://127.0.0.1:{server.server_port}/far"], "licence": "CC0-1.0",
        "supervised": False, "trained_on": "nothing", "scores": [], "limits": "none",
    }  # fmt: skip
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"schema": 1, "default": "far", "weights": [entry]}))
    monkeypatch.setenv("AMSNET_MANIFEST", str(path))
    return path


def store() -> list[str]:
    return sorted(p.name for p in weights_dir().iterdir()) if weights_dir().exists() else []


class TestShipped:
    def test_every_bundled_file_is_what_the_manifest_says(self, amsnet):
        manifest = load_manifest()
        assert manifest.default in manifest.entries
        for entry in manifest.entries.values():
            path = bundled_path(entry)
            assert (path.stat().st_size, sha256_of(path)) == (entry.size, entry.sha256)
            assert path.stat().st_size < 4_000_000
            assert entry.trained_on and entry.limits and entry.scores and entry.licence
            load_model(path)
        assert amsnet("weights", "verify").stdout.count(": ok") == len(manifest.entries)

    def test_pulling_what_is_bundled_needs_no_network(self, amsnet, monkeypatch):
        monkeypatch.setenv("AMSNET_OFFLINE", "1")
        result = amsnet("weights", "pull", "photo")
        assert result.exit_code == 0
        assert Path(result.stdout.strip()).is_file()

    def test_bundled_weights_stay(self, amsnet):
        result = amsnet("weights", "remove", "photo", "--yes")
        assert result.exit_code == 2
        assert find_weights("photo").is_file()


class TestPull:
    def test_list_pull_verify_path_remove(self, amsnet, manifest):
        assert "can be pulled" in amsnet("weights", "list").stdout
        assert amsnet("weights", "path", "far").exit_code == 4
        pulled = amsnet("weights", "pull", "far")
        assert pulled.exit_code == 0, pulled.stderr
        assert store() == ["far.safetensors"]
        assert amsnet("weights", "path", "far").stdout == pulled.stdout
        assert Path(pulled.stdout.strip()).read_bytes() == CONTENT
        assert amsnet("weights", "verify", "far").stdout == "far: ok\n"
        [row] = json.loads(amsnet("weights", "list", "--json").stdout)
        assert (row["name"], row["state"], row["bytes"]) == ("far", "pulled", len(CONTENT))
        assert amsnet("weights", "remove", "far", "--yes").exit_code == 0
        assert store() == []

    @pytest.mark.parametrize(
        ("how", "says"),
        [
            ("missing", "Not Found"),
            ("truncated", "got 300000"),
            ("short", "got 300000"),
            ("altered", "expected sha256"),
            ("endless", r"expected 1048576 bytes, got \d+\+"),
            ("page", "got 27"),
        ],
    )
    def test_a_wrong_file_is_never_taken(self, amsnet, manifest, server, how, says):
        server.how = how
        result = amsnet("weights", "pull", "far")
        assert result.exit_code == 4
        import re

        assert re.search(says, result.stderr)
        assert result.stderr.count("\n") == 1
        assert store() == []

    def test_a_failed_pull_keeps_what_was_there(self, amsnet, manifest, server):
        amsnet("weights", "pull", "far")
        server.how = "altered"
        assert amsnet("weights", "pull", "far", "--force").exit_code == 4
        assert amsnet("weights", "verify").exit_code == 0
        assert store() == ["far.safetensors"]

    def test_what_is_there_is_not_fetched_again(self, amsnet, manifest, server):
        for _ in range(2):
            amsnet("weights", "pull", "far")
        assert server.asked == ["/far"]

    def test_damage_is_named_with_the_mend(self, amsnet, manifest):
        path = Path(amsnet("weights", "pull", "far").stdout.strip())
        path.write_bytes(CONTENT[:-1] + b"?")
        result = amsnet("weights", "verify")
        assert result.exit_code == 4
        assert str(path) in result.stderr and "amsnet weights pull far" in result.stderr

    def test_a_mirror_is_asked_first_and_sources_in_turn(
        self, amsnet, manifest, server, monkeypatch
    ):
        monkeypatch.setenv("AMSNET_MIRROR", f"http://127.0.0.1:{server.server_port}/mirror/")
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert server.asked == ["/mirror/far.safetensors"]
        amsnet("weights", "remove", "far", "--yes")
        monkeypatch.setenv("AMSNET_MIRROR", "http://127.0.0.1:9/")  # nobody listens there
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert server.asked[-1] == "/far"

    def test_offline_is_offline(self, amsnet, manifest, server, monkeypatch):
        monkeypatch.setenv("AMSNET_OFFLINE", "1")
        result = amsnet("weights", "pull", "far")
        assert result.exit_code == 4 and "AMSNET_OFFLINE" in result.stderr
        assert server.asked == []

    @pytest.mark.parametrize("source", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
    def test_only_http(self, amsnet, manifest, source):
        content = json.loads(manifest.read_text())
        content["weights"][0]["sources"] = [source]
        manifest.write_text(json.dumps(content))
        assert "not an http address" in amsnet("weights", "pull", "far").stderr


class TestManifest:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("sha256", "abc"), ("sha256", "G" * 64), ("name", "../evil"), ("size", 0),
            ("bundled", True), ("extra", 1),
        ],
    )  # fmt: skip
    def test_malformed_entries_are_refused(self, manifest, key, value):
        content = json.loads(manifest.read_text())
        content["weights"][0][key] = value
        manifest.write_text(json.dumps(content))
        with pytest.raises(WeightsError, match="manifest"):
            load_manifest()


class TestNames:
    def test_fitted_models_go_by_name(self, amsnet, tiny_model):
        models_dir().mkdir(parents=True)
        (models_dir() / "my cat [1].safetensors").write_bytes(tiny_model.read_bytes())
        assert find_weights("my cat [1]").parent == models_dir()
        assert "my cat [1]" in amsnet("weights", "list").stdout
        assert find_weights(str(tiny_model)) == tiny_model

    @pytest.mark.parametrize("name", ["nothing", "no/such/file", "gone.safetensors"])
    def test_unknown_names_list_what_there_is(self, name):
        with pytest.raises(WeightsError, match="there are: .*photo|weights list"):
            find_weights(name)

    def test_asks_before_a_fitted_model_is_lost(self, amsnet, tiny_model):
        models_dir().mkdir(parents=True)
        target = models_dir() / "mine.safetensors"
        target.write_bytes(tiny_model.read_bytes())
        assert amsnet("weights", "remove", "mine").exit_code == 1
        assert target.exists()
        assert amsnet("weights", "remove", "mine", "-y").exit_code == 0
        assert not target.exists()
