"""`-w auto`: each photo is denoised by the model that is fitted to its camera."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from amsnet_cli.core.networks import CompactUNetConfig
from amsnet_cli.errors import UsageError, WeightsError
from amsnet_cli.model import ModelConfig, build_network, load_model, save_model
from amsnet_cli.photos.exif import SOFTWARE
from amsnet_cli.photos.read import read_photo
from amsnet_cli.weights.header import read_header
from amsnet_cli.weights.store import ISO_REACH, model_for, model_path, models_dir

EOS, NIKON = "Canon EOS 6D", "NIKON D800"
SMALL = ModelConfig(network=CompactUNetConfig(widths=(8, 8), blocks=(1, 1)))


def fitted(name: str, cameras: object, *, age: float = 0) -> Path:
    """Put a model among the user's own, as a fit does, last changed `age` seconds ago."""
    torch.manual_seed(len(name))
    path = models_dir() / f"{name}.safetensors"
    save_model(path, build_network(SMALL), replace(SMALL, cameras=cameras))
    os.utime(path, (1.7e9 - age, 1.7e9 - age))
    return path


def photo(path: Path, make: str, model: str, iso: int | None) -> Path:
    block = Image.Exif()
    block[271], block[272] = make, model
    if iso is not None:
        block.get_ifd(0x8769)[34855] = iso
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(path, exif=block)
    return path


class TestWhichModel:
    def test_that_of_the_camera_whose_speeds_are_nearest(self):
        low = fitted("low", {EOS: [100, 400], NIKON: [100, 100]})
        high = fitted("high", {EOS: [1600, 6400]})
        assert model_for(EOS, 200) == low
        assert model_for(EOS, 3200) == high
        assert model_for(NIKON, 100) == low
        assert model_for(NIKON, 3200) is None
        assert model_for("Canon", 200) is model_for("canon eos 6d", 200) is None
        assert model_for(None, 200) is model_for(None, None) is None

    @given(st.integers(50, 10**6))
    def test_of_two_that_reach_it_the_nearer_in_the_middle(self, iso):
        wide = fitted("wide", {EOS: [100, 25600]})
        narrow = fitted("narrow", {EOS: [800, 1600]})
        chosen = model_for(EOS, iso)
        if not 100 / ISO_REACH <= iso <= 25600 * ISO_REACH:
            assert chosen is None
        elif 800 / ISO_REACH <= iso <= 1600 * ISO_REACH and iso < 1345:
            assert chosen == narrow, "the middles are 1600 and 1131, half way lies at 1345"
        else:
            assert chosen == wide

    def test_what_is_not_known_matches_but_last(self):
        silent = fitted("silent", {EOS: []})
        assert model_for(EOS, 1600) == model_for(EOS, None) == silent
        known = fitted("known", {EOS: [1000, 2000]}, age=100)
        assert model_for(EOS, 1600) == known
        assert model_for(EOS, 25600) == model_for(EOS, None) == silent

    def test_of_equals_the_newest_then_by_name(self):
        old, b, a = (fitted(n, {EOS: [100, 200]}, age=100 * (n == "0")) for n in ("0", "b", "a"))
        assert model_for(EOS, 150) == a
        for path in (a, b):
            path.unlink()
        assert model_for(EOS, 150) == old

    @pytest.mark.parametrize(
        "cameras",
        [
            [], "Canon", {EOS: 1600}, {EOS: [1600]}, {EOS: [1600, 100]}, {EOS: [0, 100]},
            {EOS: [100, 1 << 40]}, {EOS: [100.0, 200.0]}, {EOS: [True, True]}, {EOS: None},
            {EOS: ["100", "200"]}, {EOS: [100, 200, 400]}, None,
        ],
    )  # fmt: skip
    def test_malformed_ones_are_damage_and_passed_over(self, amsnet, cameras):
        path = fitted("bad", cameras)
        with pytest.raises(WeightsError, match="not an amsnet model .*lowest and a highest ISO"):
            load_model(path)
        with pytest.raises(WeightsError, match="damaged"):
            read_header(path)
        assert model_for(EOS, 1600) is None
        assert "damaged" in amsnet("weights", "list").stdout
        good = fitted("good", {EOS: [1600, 1600]})
        for name, content in (("cut", good.read_bytes()[:999]), ("deep", b"[" * 100_000)):
            (models_dir() / f"{name}.safetensors").write_bytes(content)
        deep = {"amsnet": "[" * 100_000}
        save_file({"x": torch.zeros(3)}, models_dir() / "deeper.safetensors", deep)
        assert model_for(EOS, 1600) == good

    def test_old_models_have_none(self, tmp_path):
        header = read_header(fitted("new", {EOS: [100, 200]}))
        assert header["cameras"] == {EOS: [100, 200]}
        assert load_model(models_dir() / "new.safetensors").config.cameras == {EOS: [100, 200]}
        del header["cameras"]
        tensors = build_network(SMALL).state_dict()
        tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
        save_file(tensors, models_dir() / "new.safetensors", {"amsnet": json.dumps(header)})
        assert load_model(models_dir() / "new.safetensors").config.cameras == {}
        assert model_for(EOS, 100) is None


class TestDenoise:
    def test_each_photo_by_the_model_of_its_camera(self, amsnet, tmp_path):
        fitted("my canon", {EOS: [1600, 6400]})
        fitted("nikon", {NIKON: []})
        card = tmp_path / "card"
        card.mkdir()
        photo(card / "a.png", "Canon", "Canon EOS 6D", 3200)
        photo(card / "b.png", "NIKON CORPORATION", "NIKON D800", 100)
        photo(card / "c.png", "Canon", "Canon EOS 6D", 100)
        photo(card / "d.png", "Canon", "Canon EOS 6D", None)
        (card / "e.png").write_text("no picture")
        Image.new("RGB", (20, 20)).save(card / "f.png")
        page = tmp_path / "page.html"
        call = ["denoise", card, "-o", tmp_path / "auto", "-w", "auto"]
        done = amsnet(*call, "--json", "--report", page)
        assert done.exit_code == 3, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        used = ["my canon", "nikon", "photo", "my canon", None, "photo"]
        assert [row["weights"] for row in rows] == used
        for says in (
            "a.png: 32x24, 8 bit, my canon (fitted to Canon EOS 6D, ISO 1600 to 6400), ",
            "b.png: 32x24, 8 bit, nikon (fitted to NIKON D800), ",
            "c.png: 32x24, 8 bit, photo (no model is fitted to Canon EOS 6D, ISO 100), ",
            "f.png: 20x20, 8 bit, photo (the photo names no camera), ",
        ):
            assert says in done.stderr
        assert "nikon (fitted to NIKON D800)" in page.read_text()
        for row, name in zip(rows, used, strict=True):
            if name:
                source, result = Path(row["input"]), Path(row["output"])
                with Image.open(result) as image:
                    assert f"({name})" in image.getexif()[SOFTWARE]
                alone = tmp_path / "alone" / source.name
                alone.parent.mkdir(exist_ok=True)
                assert amsnet("denoise", source, "-o", alone, "-w", name).exit_code == 0
                assert alone.read_bytes() == result.read_bytes()

    def test_without_metadata_in_the_result(self, amsnet, tmp_path):
        fitted("mine", {EOS: []})
        source = photo(tmp_path / "a.jpg", "Canon", "Canon EOS 6D", 100)
        done = amsnet("denoise", source, "-o", tmp_path / "b.jpg", "-w", "auto", "--strip-metadata")
        assert "mine (fitted to Canon EOS 6D)" in done.stderr
        assert read_photo(tmp_path / "b.jpg").exif is None

    def test_a_model_that_breaks_fails_its_photos_alone(self, amsnet, tmp_path):
        path = fitted("mine", {EOS: []})
        content = path.read_bytes()
        assert content.count(b"[8, 8]") == 1
        path.write_bytes(content.replace(b"[8, 8]", b"[9, 8]"))
        assert model_for(EOS, 100) == path
        a = photo(tmp_path / "a.jpg", "Canon", "Canon EOS 6D", 100)
        b = photo(tmp_path / "b.jpg", "Canon", "Canon EOS 5D", 100)
        done = amsnet("denoise", a, b, "-o", tmp_path / "out", "-w", "auto")
        assert done.exit_code == 3 and str(path) in done.stderr
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["b.jpg"]


class TestCommands:
    def test_only_denoise_chooses(self, amsnet, tmp_path, noisy_png):
        for call in (["evaluate", tmp_path], ["fit", tmp_path, "-o", tmp_path / "x.safetensors"]):
            refused = amsnet(*call, "-w", "auto")
            assert refused.exit_code == 2
            assert "auto selects weights only in: amsnet denoise" in refused.stderr

    def test_no_model_takes_the_name(self, amsnet, tmp_path):
        with pytest.raises(UsageError, match="'auto' is taken"):
            model_path("auto")
        model = fitted("mine", {})
        refused = amsnet("weights", "import", model, "--name", "auto")
        assert refused.exit_code == 2 and "taken" in refused.stderr

    def test_cameras_are_listed_and_imported(self, amsnet, tmp_path):
        model = fitted("mine [1]", {EOS: [1600, 6400], NIKON: [], "Ä": [100, 100]})
        says = f"{EOS}, ISO 1600 to 6400; {NIKON}; Ä, ISO 100"
        assert says in amsnet("weights", "list").stdout
        assert says in amsnet("weights", "show", "mine [1]").stdout
        rows = json.loads(amsnet("weights", "list", "--json").stdout)
        listed = {row["name"]: row["cameras"] for row in rows}
        assert listed["mine [1]"] == {EOS: [1600, 6400], NIKON: [], "Ä": [100, 100]}
        assert listed["photo"] == {}
        moved = tmp_path / "theirs.safetensors"
        model.rename(moved)
        assert amsnet("weights", "import", moved).exit_code == 0
        assert model_for(EOS, 1600) == models_dir() / "theirs.safetensors"
