"""The manifest, the store and its commands, Google Drive, and trust on first use."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import time
from pathlib import Path

import jsonschema
import pytest
import torch

from amsnet_cli.core.networks import CompactUNetConfig, ConditionedUNetConfig, DeamNet
from amsnet_cli.errors import WeightsError
from amsnet_cli.model import Inference, load_model
from amsnet_cli.mosaic_model import load_mosaic_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.report.fit_page import write_fit_page
from amsnet_cli.weights import connection, drive
from amsnet_cli.weights.header import read_header
from amsnet_cli.weights.manifest import (
    bundled_path,
    git_blob_sha1_of,
    load_manifest,
    own_manifest,
    sha256_of,
)
from amsnet_cli.weights.records import Origin, first_use, lock_path, record_first_use
from amsnet_cli.weights.store import find_weights, fitted_models, models_dir, weights_dir
from tests.faulty_server import Server
from tests.published_weights import CONTENT, entry, store
from tests.test_importing import lightning, prefixed
from tests.test_official import fill

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "weights_manifest.schema.json").read_text("utf-8"))
DEAMNET = "deamnet-sidd-val_avg_psnr=37.80.ckpt"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TIMEOUT", 2.0)
    monkeypatch.setattr(connection, "BACK_OFF", 0.0)


@pytest.fixture(scope="module")
def deamnet_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the authors' DeamNet checkpoint looks like, with other numbers in it."""
    network = DeamNet()
    fill(network, 0.7)
    path = tmp_path_factory.mktemp("authors") / DEAMNET
    torch.save(lightning(network.state_dict()), path)
    return path.read_bytes()


class TestShipped:
    def test_the_manifest_keeps_to_its_schema(self):
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
        content = json.loads((ROOT / "weights_manifest.json").read_text("utf-8"))
        jsonschema.validate(content, SCHEMA)
        manifest = own_manifest()
        assert manifest.default == "photo"
        assert manifest.entry("default").bundled

    def test_every_bundled_file_is_what_the_manifest_says(self, amsnet):
        bundled = [e for e in own_manifest().entries.values() if e.bundled]
        assert {e.name for e in bundled} >= {"photo", "fine", "sidd"}
        for published in bundled:
            path = bundled_path(published)
            assert published.file.difference(path) == ""
            assert path.stat().st_size < 4_000_000
            if published.network == "mosaic":
                assert load_mosaic_model(path).name == published.name
                continue
            config = load_model(path).config
            assert isinstance(config.network, CompactUNetConfig | ConditionedUNetConfig)
            assert (config.fill, config.mask_channel) == (published.fill, published.mask_channel)
            assert config.inference == Inference(**published.inference)
            assert read_header(path)["provenance"] == config.provenance
        assert amsnet("weights", "verify").stdout == "".join(f"{e.name}: ok\n" for e in bundled)

    @pytest.mark.parametrize("name", ["fine", "default"])
    def test_pulling_what_is_bundled_needs_no_network(self, amsnet, monkeypatch, name):
        monkeypatch.setenv("AMSNET_OFFLINE", "1")
        result = amsnet("weights", "pull", name)
        assert result.exit_code == 0
        assert Path(result.stdout.strip()).is_file()
        assert "amsnet denoise PHOTO -o CLEAN -w" in result.stderr

    def test_bundled_weights_stay(self, amsnet):
        result = amsnet("weights", "remove", "photo", "--yes")
        assert result.exit_code == 2
        assert find_weights("photo").is_file()

    def test_the_authors_checkpoints_run_as_in_the_paper(self):
        """Names, structures and settings as in the paper's newest configuration."""
        entries = own_manifest().entries
        for network, psnr, refine in (
            ("restormer", 37.92, 0.0), ("deamnet", 37.80, 0.16), ("nafnet", 36.94, 0.16),
            ("unet", 36.94, 0.0),
        ):  # fmt: skip
            known = entries[f"sidd-{network}"]
            assert known.file.name == f"{network}-sidd-val_avg_psnr={psnr:.2f}.ckpt"
            assert not known.file.pinned and not known.supervised
            assert known.network == network and (known.fill, known.mask_channel) == ("zeros", False)
            assert Inference(**known.inference) == Inference(
                passes="multi", n_masks=2, stride=2, refine=refine
            )
            assert drive.is_folder(known.sources[0])
        real = entries["deamnet-real"]
        assert real.file.pinned and real.supervised
        assert Inference(**real.inference) == Inference(passes="single")

    @pytest.mark.parametrize("name", list(own_manifest().entries))
    def test_show_tells_everything(self, amsnet, name):
        known = own_manifest().entry(name)
        shown = " ".join(amsnet("weights", "show", name).stdout.split())
        for text in (known.title, known.purpose, known.limits, known.trained_on, known.file.name):
            assert " ".join(text.split()[:6]) in shown
        assert ("--trust-first-use" in shown) == (not known.file.pinned)
        facts = json.loads(amsnet("weights", "show", name, "--json").stdout)
        assert facts["published"]["file"]["name"] == known.file.name


FILE = {"name": "far.safetensors", "size": 5, "sha256": "0" * 64}


class TestManifest:
    @pytest.mark.parametrize(
        "change",
        [
            {"file": {**FILE, "sha256": "abc"}}, {"file": {**FILE, "sha256": "G" * 64}},
            {"file": {**FILE, "sha256": "A" * 64}}, {"file": {**FILE, "sha256": 0}},
            {"file": {**FILE, "git_blob_sha1": "0" * 40}}, {"file": {**FILE, "size": 0}},
            {"file": {**FILE, "size": 1.5}}, {"file": {**FILE, "size_about": 5}},
            {"file": {**FILE, "name": "../up.safetensors"}}, {"file": {**FILE, "md5": "0" * 32}},
            {"file": {"name": "far.ckpt", "size_about": 5, "git_blob_sha1": "0" * 39}},
            {"file": {"name": "far.ckpt"}}, {"name": "../evil"}, {"name": "Far"},
            {"aliases": ["a b"]}, {"aliases": "far"}, {"bundled": "yes"}, {"sources": "http://x"},
            {"inference": {"passes": "multi", "magic": 1}}, {"extra": 1}, {"licence": None},
        ],
    )  # fmt: skip
    def test_malformed_entries_are_refused(self, publish, change):
        malformed = entry("https://x.invalid/far", **change)
        publish(malformed)
        with pytest.raises(WeightsError, match="not a weights manifest"):
            load_manifest()
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"schema": 2, "weights": [malformed]}, SCHEMA)

    @pytest.mark.parametrize("missing", list(entry()))
    def test_nothing_may_be_left_out(self, publish, missing):
        malformed = {key: value for key, value in entry().items() if key != missing}
        publish(malformed)
        with pytest.raises(WeightsError, match=missing):
            load_manifest()

    def test_names_and_aliases_are_of_one_entry_alone(self, publish):
        publish(entry(), entry(name="away", aliases=[]))
        with pytest.raises(WeightsError, match="several weights named away"):
            load_manifest()
        for name in ("photo", "default", "sidd-unet"):
            publish(entry(aliases=[name]))
            with pytest.raises(WeightsError, match=f"the name {name} is taken"):
                load_manifest()
        publish(entry(bundled=True))
        with pytest.raises(WeightsError, match="bundled"):
            load_manifest()

    def test_one_s_own_adds_to_the_program_s(self, far):
        assert {"photo", "sidd", "far"} <= load_manifest().entries.keys()
        assert load_manifest().default == "photo"
        assert load_manifest().entry("away").name == "far"


class TestStore:
    def test_list_pull_show_verify_path_remove(self, amsnet, far):
        assert re.search(r"far +available +1.0 MB +CC0-1.0 +from far away", listed(amsnet))
        assert amsnet("weights", "path", "far").exit_code == 4
        assert "amsnet weights pull far" in amsnet("weights", "show", "far").stdout
        pulled = amsnet("weights", "pull", "away")
        assert pulled.exit_code == 0, pulled.stderr
        assert pulled.stdout == amsnet("weights", "path", "far").stdout == f"{far}\n"
        assert pulled.stderr.count("\n") == 1, "no animation off a terminal"
        assert far.read_bytes() == CONTENT
        assert amsnet("weights", "verify", "far").stdout == "far: ok\n"
        rows = {r["name"]: r for r in json.loads(amsnet("weights", "list", "--json").stdout)}
        assert rows["far"]["state"] == "pulled" and rows["far"]["bytes"] == len(CONTENT)
        assert rows["far"]["path"] == str(far) and rows["photo"]["default"]
        assert amsnet("weights", "remove", "far", "--yes").exit_code == 0
        assert store() == []
        assert amsnet("weights", "remove", "far", "--yes").exit_code == 4

    def test_what_is_there_is_not_fetched_again(self, amsnet, far, server):
        for _ in range(2):
            assert amsnet("weights", "pull", "far").exit_code == 0
        assert len(server.asked) == 1
        assert amsnet("weights", "pull", "far", "--force").exit_code == 0
        assert len(server.asked) == 2

    def test_a_folder_of_one_s_own(self, amsnet, far, tmp_path, monkeypatch):
        monkeypatch.setenv("AMSNET_WEIGHTS_DIR", str(tmp_path / "shared"))
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert find_weights("far") == tmp_path / "shared" / "far.safetensors"
        assert not far.exists()

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
    def test_a_store_that_can_only_be_read(self, amsnet, far, server):
        assert amsnet("weights", "pull", "far").exit_code == 0
        weights_dir().chmod(0o555)
        try:
            assert amsnet("weights", "pull", "far").exit_code == 0
            refused = amsnet("weights", "pull", "far", "--force")
            assert refused.exit_code == 1 and refused.stderr.count("\n") == 1
        finally:
            weights_dir().chmod(0o755)

    @pytest.mark.parametrize("damage", [CONTENT[:-1] + b"?", b"", CONTENT + b"x"])
    def test_damage_is_reported_with_a_fix_that_works(self, amsnet, far, damage):
        amsnet("weights", "pull", "far")
        far.write_bytes(damage)
        result = amsnet("weights", "verify")
        assert result.exit_code == 4
        assert str(far) in result.stderr and "amsnet weights pull far" in result.stderr
        assert "photo: ok" in result.stdout, "the others are verified all the same"
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert far.read_bytes() == CONTENT

    def test_fitted_models_go_by_name(self, amsnet, tiny_model):
        models_dir().mkdir(parents=True)
        (models_dir() / "my cat [1].safetensors").write_bytes(tiny_model.read_bytes())
        assert find_weights("my cat [1]").parent == models_dir()
        assert re.search(r"my cat \[1\] +fitted", listed(amsnet))
        assert "2 complementary masks" in amsnet("weights", "show", "my cat [1]").stdout
        assert "my cat [1]: readable" in amsnet("weights", "verify").stdout
        assert find_weights(str(tiny_model)) == tiny_model

    def test_a_model_of_one_s_own_goes_first_which_is_said(self, amsnet, far, tiny_model):
        models_dir().mkdir(parents=True)
        (models_dir() / "far.safetensors").write_bytes(tiny_model.read_bytes())
        pulled = amsnet("weights", "pull", "far")
        assert pulled.exit_code == 0 and "is used instead" in pulled.stderr
        assert find_weights("far").parent == models_dir()
        amsnet("weights", "remove", "far", "-y")
        assert find_weights("far") == far

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

    @pytest.mark.parametrize("ours", [True, False])
    def test_a_fit_s_page_goes_with_it(self, amsnet, tiny_model, ours):
        models_dir().mkdir(parents=True)
        (models_dir() / "mine.safetensors").write_bytes(tiny_model.read_bytes())
        page = models_dir() / "mine.html"
        if ours:
            write_fit_page(page, title="mine", about=[], settings=[], curve=[], comparisons=[])
        else:
            page.write_text("my diary")
        assert amsnet("weights", "remove", "mine", "-y").exit_code == 0
        assert page.exists() != ours

    def test_a_link_is_removed_not_what_it_leads_to(self, amsnet, tiny_model):
        models_dir().mkdir(parents=True)
        (models_dir() / "link.safetensors").symlink_to(tiny_model)
        assert amsnet("weights", "remove", "link", "-y").exit_code == 0
        assert tiny_model.exists() and fitted_models() == {}

    def test_a_planted_link_is_not_written_through(self, amsnet, far, tmp_path):
        victim = tmp_path / "victim"
        victim.write_text("precious")
        weights_dir().mkdir(parents=True)
        for name in (".far.part", "far.safetensors"):
            (weights_dir() / name).symlink_to(victim)
        assert amsnet("weights", "pull", "far").exit_code == 0
        assert far.read_bytes() == CONTENT and not far.is_symlink()
        assert victim.read_text() == "precious"

    def test_prune(self, amsnet, far, publish, server, tiny_model):
        publish(entry(server.url()), entry(server.url(), name="old", aliases=[]))
        for name in ("far", "old"):
            assert amsnet("weights", "pull", name).exit_code == 0
        fresh, stale = weights_dir() / ".new.part", weights_dir() / ".far.part"
        for part in (fresh, stale):
            part.write_bytes(b"x" * 100)
        yesterday = time.time() - 86400
        os.utime(stale, (yesterday, yesterday))
        foreign = weights_dir() / "someone-elses.safetensors"
        foreign.write_bytes(b"precious")
        (weights_dir() / "notes.json").write_text("{}")
        (weights_dir() / "gone.json").write_text((weights_dir() / "old.json").read_text())
        models_dir().mkdir(parents=True)
        fitted = models_dir() / "mine.safetensors"
        fitted.write_bytes(tiny_model.read_bytes())
        publish(entry(server.url()))
        asked = amsnet("weights", "prune")
        assert asked.exit_code == 1 and stale.exists()
        for doomed in (".far.part", "old.safetensors", "gone.json"):
            assert doomed in asked.stderr
        assert amsnet("weights", "prune", "--yes").exit_code == 0
        assert store() == [
            ".new.part", "far.json", "far.safetensors", "notes.json", "someone-elses.safetensors",
        ]  # fmt: skip
        assert fitted.exists()
        assert "nothing to prune" in amsnet("weights", "prune", "--yes").stderr

    def test_from_file(self, amsnet, far, server, tmp_path, monkeypatch):
        monkeypatch.setenv("AMSNET_OFFLINE", "1")
        good, bad = tmp_path / "good", tmp_path / "bad"
        good.write_bytes(CONTENT)
        bad.write_bytes(CONTENT[:-1] + b"?")
        for wrong in (bad, tmp_path / "missing", tmp_path):
            assert amsnet("weights", "pull", "far", "--from-file", wrong).exit_code == 4
            assert store() == []
        assert amsnet("weights", "pull", "far", "--from-file", good).exit_code == 0
        assert far.read_bytes() == CONTENT and good.exists()
        assert server.asked == []


class TestDamagedStore:
    """Whatever is wrong with the store, the bundled default denoises."""

    def damages(self, home: Path, tmp_path: Path) -> dict[str, dict[str, str]]:
        garbage, blocked = home / "garbage", home / "blocked"
        for folder in (garbage / "weights", garbage / "models", blocked):
            folder.mkdir(parents=True)
        for name in (
            "photo.safetensors",
            "photo.json",
            "sidd.json",
            "x.safetensors",
            ".photo.part",
        ):
            (garbage / "weights" / name).write_bytes(b"\xff\x00garbage")
            (garbage / "models" / name.replace("photo", "y")).write_bytes(b"\xff\x00garbage")
        (garbage / "models" / "dangling.safetensors").symlink_to("/nowhere")
        (garbage / "models" / "folder.safetensors").mkdir()
        (garbage / "weights.lock.json").write_text("{broken")
        (blocked / "weights").write_text("a file where a folder should be")
        (blocked / "models").write_text("a file where a folder should be")
        (home / "not-a-manifest.json").write_text("[1, 2")
        closed = home / "closed"
        closed.mkdir(mode=0)
        return {
            "garbage": {"AMSNET_HOME": str(garbage)},
            "blocked": {"AMSNET_HOME": str(blocked)},
            "a home that is a file": {"AMSNET_HOME": str(home / "not-a-manifest.json")},
            "closed": {"AMSNET_HOME": str(closed)},
            "nowhere": {"AMSNET_HOME": "/proc/none"},
            "manifest": {"AMSNET_MANIFEST": str(home / "not-a-manifest.json")},
            "no manifest": {"AMSNET_MANIFEST": "/nowhere.json"},
            "manifest folder": {"AMSNET_MANIFEST": str(home)},
        }

    def test_the_default_denoises(self, amsnet, home, tmp_path, noisy_crop, monkeypatch):
        small = tmp_path / "small.png"
        write_photo(Photo(pixels=noisy_crop[:40, :40].copy()), small)
        for name, environment in self.damages(home, tmp_path).items():
            with monkeypatch.context() as patch:
                for key, value in environment.items():
                    patch.setenv(key, value)
                assert find_weights(None) == bundled_path(own_manifest().entry("photo"))
                out = tmp_path / f"{name}.png"
                result = amsnet("denoise", small, "-o", out)
                assert result.exit_code == 0, (name, result.stderr)
                for command in ("list", "verify", "show photo", "prune -y", "pull photo",
                                "pull sidd-unet", "path nothing"):  # fmt: skip
                    # An answer or one line, no traceback.
                    result = amsnet("weights", *command.split())
                    assert result.exit_code in (0, 1, 4), (name, command)

    def test_garbage_is_listed_as_unreadable(self, amsnet, home, tmp_path, monkeypatch):
        monkeypatch.setenv("AMSNET_HOME", self.damages(home, tmp_path)["garbage"]["AMSNET_HOME"])
        assert re.search(r"x +unreadable", listed(amsnet))
        result = amsnet("weights", "verify")
        assert result.exit_code == 4 and "x.safetensors: damaged" in result.stderr
        assert amsnet("weights", "remove", "x", "-y").exit_code == 0

    def test_the_lock_file_bears_many_at_once(self, tmp_path):
        (tmp_path / "x").write_bytes(b"x")
        origin = Origin.of(tmp_path / "x", name="x", source="here")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: record_first_use(f"n{i}", origin), range(24)))
        assert len(json.loads(lock_path().read_text())) == 24
        assert first_use("n7") == origin

    def test_a_broken_lock_file_stops_what_needs_it(self, amsnet, home):
        lock_path().write_text("{broken")
        result = amsnet("weights", "pull", "sidd-unet", "--trust-first-use")
        assert result.exit_code == 4 and str(lock_path()) in result.stderr
        assert lock_path().read_text() == "{broken"


class TestFirstUse:
    """Weights without a published digest are taken only on request, checked, and pinned."""

    @pytest.fixture
    def unpinned(self, publish, server, tiny_model) -> bytes:
        """`far`, published without a digest; a model of this program."""
        server.content = tiny_model.read_bytes()
        file = {"name": "far.safetensors", "size_about": len(server.content)}
        publish(entry(server.url(), file=file))
        return server.content

    def test_pulling_stops_with_the_two_ways_on(self, amsnet, unpinned, server):
        result = amsnet("weights", "pull", "far")
        assert result.exit_code == 4 and result.stderr.count("\n") == 1
        assert "--trust-first-use" in result.stderr and "amsnet weights import" in result.stderr
        assert server.asked == [] and store() == []

    def test_then_its_digest_is_enforced(self, amsnet, unpinned, server):
        assert amsnet("weights", "pull", "far", "--trust-first-use").exit_code == 0
        pinned = json.loads(lock_path().read_text())["far"]
        assert pinned["sha256"] == sha256_of(weights_dir() / "far.safetensors")
        assert amsnet("weights", "verify", "far").exit_code == 0
        amsnet("weights", "remove", "far", "-y")
        server.content = unpinned.replace(b"\0\0", b"\0\1", 1)
        for extra in ((), ("--trust-first-use",), ("--force",)):
            result = amsnet("weights", "pull", "far", *extra)
            assert result.exit_code == 4 and pinned["sha256"] in result.stderr
            assert not (weights_dir() / "far.safetensors").exists()
        server.content = unpinned
        assert amsnet("weights", "pull", "far").exit_code == 0, "no need to trust it again"

    @pytest.mark.parametrize(
        "plan", [["shorter"], ["longer"], ["page"], ["cut", "new file"], ["cut", "shorter"],
                 ["endless"], ["empty"], ["cut", "404"], ["gzip"]],
    )  # fmt: skip
    def test_what_is_not_a_model_is_not_pinned(self, amsnet, unpinned, server, plan):
        server.plan = plan
        assert amsnet("weights", "pull", "far", "--trust-first-use").exit_code == 4
        assert not lock_path().exists()
        assert amsnet("weights", "pull", "far", "--trust-first-use").exit_code == 0
        assert (weights_dir() / "far.safetensors").read_bytes() == unpinned

    @pytest.mark.parametrize("fault", ["cut", "stall", "reset", "503", "no ranges", "wrong range"])
    def test_goes_on_only_with_the_same_file(self, amsnet, unpinned, server, fault, monkeypatch):
        monkeypatch.setattr(connection, "TIMEOUT", 0.2)
        server.plan = [fault]
        assert amsnet("weights", "pull", "far", "--trust-first-use").exit_code == 0
        assert (weights_dir() / "far.safetensors").read_bytes() == unpinned
        amsnet("weights", "remove", "far", "-y")
        lock_path().unlink()
        server.asked.clear()
        server.headers = {"ETag": 'W/"weak"'}  # which vouches for nothing
        server.plan = ["cut"]
        assert amsnet("weights", "pull", "far", "--trust-first-use").exit_code == 0
        assert [r for _, r in server.asked] == [None, None]

    def test_checkpoints_pinned_by_git_are_converted(self, amsnet, publish, server, tmp_path):
        """As `deamnet-real` is: the format before 1.6, `module.`, run in a single pass."""
        network = DeamNet()
        fill(network, 0.7)
        path = tmp_path / "Real.pth"
        torch.save(
            prefixed("module.", network.state_dict()), path, _use_new_zipfile_serialization=False
        )
        server.content = path.read_bytes()
        file = {"name": "Real.pth", "size_about": 9_000_000,
                "git_blob_sha1": git_blob_sha1_of(path)}  # fmt: skip
        publish(entry(server.url(), network="deamnet", fill="zeros", mask_channel=False, file=file))
        server.plan = ["cut", "503"]
        pulled = amsnet("weights", "pull", "far")
        assert pulled.exit_code == 0, pulled.stderr
        model = load_model(Path(pulled.stdout.strip()))
        assert model.config.network == "deamnet"
        assert model.config.inference == Inference(passes="single")
        assert amsnet("weights", "verify", "far").exit_code == 0
        assert store() == ["far.json", "far.safetensors"]
        assert not lock_path().exists(), "its digest is published"
        Path(pulled.stdout.strip()).write_bytes(b"damage")
        assert amsnet("weights", "verify", "far").exit_code == 4
        amsnet("weights", "remove", "far", "-y")
        server.plan = ["altered"]
        assert amsnet("weights", "pull", "far").exit_code == 4
        assert store() == []


LISTING = """<html><body><div class="flip-entries">
<div class="flip-entry" id="entry-UNET"><a href="https://drive.google.com/file/d/UNET/view?usp=dr">
<div class="flip-entry-title">unet-sidd-val_avg_psnr=36.94.ckpt</div></a></div>
<div class="flip-entry" id="entry-DEAM"><a href="https://drive.google.com/file/d/DEAM/view?usp=dr">
<div class="flip-entry-visual"><img src="x"/></div>
<div class="flip-entry-title">{name}</div></a><div>9/1/24</div></div>
<div class="flip-entry"><a href="https://drive.google.com/drive/folders/SUB">a folder</a></div>
</div></body></html>"""
FORM = """<html><title>Virus scan warning</title><form id="download-form" action="{action}"
method="get"><input type="submit" value="Download anyway"/><input type="hidden" name="id"
value="DEAM"><input type="hidden" name="export" value="download"><input type="hidden"
name="uuid" value="a b&amp;c"></form></html>"""
QUOTA = "<html><p>Sorry, you can't view or download this file: Too many users have viewed it.</p>"


class TestGoogleDrive:
    """The real entries, against a loopback server that answers as Drive does."""

    @pytest.fixture
    def google(self, server, monkeypatch, deamnet_checkpoint) -> Server:
        monkeypatch.setattr(drive, "LISTING", server.url("/embeddedfolderview?id={}"))
        monkeypatch.setattr(
            drive, "DOWNLOAD", server.url("/download?id={}&export=download&confirm=t")
        )
        server.content = deamnet_checkpoint
        server.headers = {"Content-Disposition": f'attachment; filename="{DEAMNET}"'}
        server.pages["/embeddedfolderview"] = LISTING.format(name=DEAMNET)
        return server

    def pull(self, amsnet):
        return amsnet("weights", "pull", "sidd-deamnet", "--trust-first-use")

    def test_a_file_is_found_by_its_exact_name(self, amsnet, google):
        pulled = self.pull(amsnet)
        assert pulled.exit_code == 0, pulled.stderr
        assert load_model(Path(pulled.stdout.strip())).config.network == "deamnet"
        assert google.asked[0][0] == ("/embeddedfolderview?id=1Qfz8cbB9jHcTzAAQEpPn7gvSkuiNnovN")
        assert "id=DEAM" in google.asked[-1][0]
        pinned = json.loads(lock_path().read_text())["sidd-deamnet"]
        assert pinned["file"] == DEAMNET and pinned["source"].startswith("https://drive.google.com")
        assert "trusted" in amsnet("weights", "show", "sidd-deamnet").stdout

    def test_the_form_before_a_large_file(self, amsnet, google):
        google.pages["/download?id=DEAM&export=download&confirm=t"] = FORM.format(
            action=google.url("/download")
        )
        assert self.pull(amsnet).exit_code == 0
        assert google.asked[-1][0] == "/download?id=DEAM&export=download&uuid=a+b%26c"

    def test_a_drop_is_continued(self, amsnet, google):
        google.plan = ["well", "cut"]  # the first answers the question for the name
        assert self.pull(amsnet).exit_code == 0
        assert google.asked[-1][1] == f"bytes={len(google.content) // 2}-"

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"/embeddedfolderview": LISTING.format(name=DEAMNET.replace("37.80", "37.81"))},
             "no files named deamnet-sidd.*it has .*37.81"),
            ({"/embeddedfolderview": LISTING.format(name="unet-sidd-val_avg_psnr=36.94.ckpt")},
             "no files named"),
            ({"/embeddedfolderview": LISTING.format(name=DEAMNET) * 2 + LISTING.format(
                name=DEAMNET).replace("DEAM", "OTHER")}, "2 files named"),
            ({"/embeddedfolderview": "<html>Sign in</html>"}, "no files named"),
            ({"/download": QUOTA}, "quota"),
            ({"/download": FORM.format(action="https://evil.invalid/x")}, "leads to https://evil"),
            ({"/download": FORM.format(action="/download")}, "keeps asking"),
            ({"/download": "<html>Sign in</html>"}, "web page"),
        ],
    )  # fmt: skip
    def test_anything_else_is_refused(self, amsnet, google, change, says):
        google.pages.update(change)
        result = self.pull(amsnet)
        assert result.exit_code == 4
        assert re.search(says, result.stderr), result.stderr
        assert store() == [] and not lock_path().exists()

    @pytest.mark.parametrize("sent", ['attachment; filename="other.ckpt"', "attachment", ""])
    def test_another_file_is_not_taken_for_it(self, amsnet, google, sent):
        google.headers = {"Content-Disposition": sent} if sent else {}
        result = self.pull(amsnet)
        assert result.exit_code == 4 and "Google Drive sends" in result.stderr
        assert store() == []

    @pytest.mark.parametrize("plan", [["503"], ["garbage", "cut"]])
    def test_hiccups_are_tried_again(self, amsnet, google, plan):
        google.plan = plan
        assert self.pull(amsnet).exit_code == 0

    def test_another_network_in_the_file_is_refused(self, amsnet, google, dncnn_checkpoint):
        google.content = dncnn_checkpoint
        result = self.pull(amsnet)
        assert result.exit_code == 4 and "is a deamnet, this is a dncnn" in result.stderr
        assert store() == [] and not lock_path().exists()

    @pytest.fixture
    def dncnn_checkpoint(self, tmp_path) -> bytes:
        from amsnet_cli.core.networks import DnCNN

        torch.save(lightning(DnCNN().state_dict()), tmp_path / "x.ckpt")
        return (tmp_path / "x.ckpt").read_bytes()


def listed(amsnet) -> str:
    return amsnet("weights", "list").stdout
