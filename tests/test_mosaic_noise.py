"""How the noise of a mosaic is known: masked borders, pixel size, remembered photos, flaws."""

from __future__ import annotations

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from amsnet_cli.errors import OutputError, UsageError
from amsnet_cli.inference.camera_noise import (
    RememberedPhoto,
    camera_noise_path,
    forget,
    gain_from,
    remember,
    remembered_cameras,
    remembered_gain,
)
from amsnet_cli.inference.denoise_mosaic import denoise_mosaic
from amsnet_cli.inference.mosaic_noise import SensorNoiseFound, dark_noise, find_flaws, find_noise
from amsnet_cli.noise.sensor import SensorNoise
from amsnet_cli.noise.sensor_estimate import estimate_sensor_noise
from amsnet_cli.noise.sensor_prior import GainPrior, gain_by_pitch
from amsnet_cli.photos import ifd
from amsnet_cli.photos.exif import make_block, pitch_of
from amsnet_cli.photos.formats.raw import read_mosaic, read_undeveloped
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from tests.dng_files import (
    BLACK,
    WHITE,
    dng,
    doubles,
    exposed,
    longs,
    rationals,
    shorts,
    text,
)
from tests.test_sensor_noise import BAYER, colours_of, photographed

X = Path("x.dng")
A, B = 1.5e-3, 2e-5
BORDER = 32


def raw_file(size=192, *, border=BORDER, sigma=None, seed=0, tags=None, light=None) -> bytes:
    """A DNG of a ramp with a sensor's noise, masked at the left by `border` photosites."""
    rng = np.random.default_rng(seed)
    if light is None:
        light = np.repeat(np.linspace(0.02, 0.9, size)[None], size, 0)
    clean = exposed(light).astype(float)
    unit = (clean - BLACK) / (WHITE - BLACK)
    noisy = clean + rng.normal(size=clean.shape) * np.sqrt(A * unit + B) * (WHITE - BLACK)
    sigma = np.sqrt(B) * (WHITE - BLACK) if sigma is None else sigma
    masked = BLACK + sigma * rng.normal(size=(len(light), border))
    frame = np.hstack([masked, noisy]).round().clip(0, WHITE).astype(np.uint16)
    area = {50829: longs(0, border, *frame.shape)}
    return dng(frame, tags={**area, 271: text("Maker"), 272: text("One"), **(tags or {})})


class TestMaskedBorders:
    def test_their_noise_is_that_of_the_dark(self):
        mosaic = read_mosaic(X, raw_file(384))
        found = find_noise(mosaic)
        assert found.source == "estimate with ISO and masked borders"
        assert float(found.laws[0].b) == pytest.approx(B, rel=0.1)
        assert abs(dark_noise(mosaic).black) < 1e-3

    def test_row_noise_and_defects_do_not_add(self):
        mosaic = read_mosaic(X, raw_file(384))
        frame = mosaic.frame.astype(float) + 30 * np.random.default_rng(1).normal(size=(384, 1))
        frame[::20, 10] = WHITE
        other = replace(mosaic, frame=frame.clip(0, WHITE).astype(np.uint16))
        assert dark_noise(other).variance == pytest.approx(dark_noise(mosaic).variance, rel=0.05)

    @pytest.mark.parametrize("what", ["light", "constant", "cut off", "too few"])
    def test_what_is_not_dark_is_not_believed(self, what):
        mosaic = read_mosaic(X, raw_file(192, border=8 if what == "too few" else BORDER))
        frame = mosaic.frame.copy()
        border = frame[:, : mosaic.area[2]]
        if what == "light":
            border += 400
        elif what == "constant":
            border[:] = BLACK
        elif what == "cut off":
            border[:] = np.maximum(border, BLACK)
        assert dark_noise(replace(mosaic, frame=frame)) is None


class TestPixelSize:
    def test_a_known_gain_decides_what_the_picture_does_not(self):
        """Fine texture all over would pass for the noise of another sensor."""
        texture = 0.1 * torch.rand(384, 384, generator=torch.Generator().manual_seed(1))
        noisy, colours = photographed(0.2 + texture), colours_of(BAYER)
        usual = estimate_sensor_noise(noisy, colours, iso=6400)
        known = estimate_sensor_noise(noisy, colours, gain=GainPrior(median=7e-4, spread=0.1))
        assert abs(np.log(float(known.a) / 6.9e-4)) < abs(np.log(float(usual.a) / 6.9e-4))
        assert 0.6 < float(known.a) / 6.9e-4 < 1.5

    def test_it_tells_the_gain(self):
        """Sensors of full frame and one inch have about 57000 and 9000 electrons at ISO 100."""
        assert 1 / gain_by_pitch(100, 6.0).median == pytest.approx(57_000, rel=0.05)
        assert 1 / gain_by_pitch(100, 2.4).median == pytest.approx(9_200, rel=0.05)

    @pytest.mark.parametrize(
        ("tags", "pitch"),
        [
            ({0xA20E: rationals([1666.7]), 0xA210: shorts(3)}, 6.0),
            ({0xA20E: rationals([4233.3]), 0xA210: shorts(2)}, 6.0),
            ({0x920A: rationals([50]), 0xA405: shorts(75)}, 4.0),
            ({0xA20E: rationals([72]), 0xA210: shorts(2)}, None),
            ({0x920A: rationals([50]), 0xA405: shorts(0)}, None),
            ({}, None),
        ],
    )
    def test_it_is_read(self, tags, pitch):
        block = make_block({0x010F: text("M"), ifd.EXIF_IFD: {34855: shorts(100), **tags}}, "<")
        found = pitch_of(block, (4000, 6000))
        assert found == (pitch and pytest.approx(pitch, rel=0.01))

    def test_damage_tells_nothing(self):
        assert pitch_of(None, (10, 10)) is None
        assert pitch_of(b"II*\0" + struct.pack("<I", 4000), (10, 10)) is None


def photo_of(iso, gain, digest="x") -> RememberedPhoto:
    return RememberedPhoto(digest=digest, iso=iso, a=gain * iso, b=1e-6)


def remember_some(start: int) -> None:
    for i in range(start, start + 10):
        remember("Maker One", photo_of(100 + i, 2e-7, str(i)))


class TestCameras:
    def test_the_lower_ones_count(self):
        """Texture makes estimates too high, most of all where noise is faint."""
        photos = [photo_of(100, 8e-7), photo_of(200, 5e-7), photo_of(6400, 2e-7)]
        assert gain_from(photos, 400).median == pytest.approx(8e-5)
        assert gain_from(photos * 10, 400).spread < gain_from(photos, 400).spread

    def test_a_photo_counts_once(self):
        for _ in range(2):
            remember("Maker One", photo_of(100, 2e-7))
        assert len(remembered_cameras()["Maker One"]) == 1
        forget("Maker One")
        assert remembered_cameras() == {}
        with pytest.raises(UsageError, match="nothing is remembered"):
            forget("Maker One")

    @pytest.mark.parametrize("content", ["", "[]", '{"cameras": {"x": {"y": [1, -2, 3]}}}'])
    def test_a_damaged_file_holds_nothing(self, content):
        camera_noise_path().write_text(content)
        assert remembered_cameras() == {}
        remember("Maker One", photo_of(100, 2e-7))
        assert list(remembered_cameras()) == ["Maker One"]

    def test_processes_do_not_lose_each_others_photos(self):
        # The lock is between open files, so threads stand for processes.
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(remember_some, [0, 10]))
        assert len(remembered_cameras()["Maker One"]) == 20

    def test_a_folder_that_cannot_be_written(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("AMSNET_HOME", str(tmp_path / "file"))
        assert remembered_cameras() == {}
        with pytest.raises(OutputError, match="cannot be written"):
            remember("Maker One", photo_of(100, 2e-7))

    def test_other_photos_are_estimated_with_it(self):
        content = raw_file()
        photo = read_undeveloped(X, content)
        assert remembered_gain(photo) is None
        remember("Maker One", photo_of(6400, 3e-7))
        found = find_noise(photo.mosaic, camera=remembered_gain(photo))
        assert found.source == "estimate with other photos of the camera and masked borders"


class TestFlaws:
    def test_defects_are_replaced_though_they_are_white(self, mosaic_model):
        mosaic = read_mosaic(X, raw_file(light=np.full((128, 128), 0.05)))
        values = mosaic.values.copy()
        values[60, 60:100:9] = WHITE
        mosaic = mosaic.with_values(values)
        noise = find_noise(mosaic)
        result = denoise_mosaic(mosaic, mosaic_model, noise, device=torch.device("cpu")).values
        assert (result[60, 60:100:9] < BLACK + 0.3 * (WHITE - BLACK)).all()

    def test_a_law_for_each_colour_and_bands(self):
        mosaic = read_mosaic(X, raw_file(96))
        tall = replace(mosaic, frame=np.tile(mosaic.frame, (22, 1)), area=(0, 96 * 22, BORDER, 128))
        noise = SensorNoiseFound(laws=(SensorNoise(a=1e-5, b=9e-6),) * 3, source="test")
        light = np.random.default_rng(0).normal(0.05, 3e-3, (96 * 22, 96)).astype(np.float32)
        places = [(1018, 50), (1019, 20), (1020, 7), (1021, 60), (2111, 95)]
        for place in places:
            light[place] = 1
        flaws = find_flaws(tall.with_light(light), noise)
        assert sorted(map(tuple, np.argwhere(flaws.defects))) == places

    def test_row_noise_is_subtracted(self):
        mosaic = read_mosaic(
            X, raw_file(light=np.full((384, 384), 0.005), tags={51041: doubles(A, B)})
        )
        rows = 0.4 * np.sqrt(B) * np.random.default_rng(1).normal(size=(384, 1))
        light = (mosaic.light() + rows).astype(np.float32)
        flaws = find_flaws(mosaic.with_light(light), find_noise(mosaic))
        assert flaws.rows is not None and flaws.columns is None
        left = flaws.without_lines(light, (0, 384, 0, 384)) - mosaic.light()
        assert left.mean(1).std() < 0.7 * rows.std()


class TestCommand:
    @pytest.fixture
    def source(self, tmp_path) -> Path:
        path = tmp_path / "x.dng"
        path.write_bytes(raw_file())
        return path

    def test_raw(self, amsnet, source):
        result = amsnet("noise", source, "--plot")
        assert result.exit_code == 0, result.stderr
        assert "Maker One, ISO 6400" in result.stdout
        assert "known from: estimate with ISO and masked borders" in result.stdout
        assert "brightness" in result.stdout and "#" in result.stdout
        facts = json.loads(amsnet("noise", source, "--json").stdout)
        law = facts["laws"][0]
        assert law["b"] == pytest.approx(B, rel=0.15)
        assert law["electrons_at_white"] == pytest.approx(1 / law["a"])
        assert law["dark_steps"] == pytest.approx(np.sqrt(law["b"]) * (WHITE - BLACK))

    def test_a_profile_for_each_colour(self, amsnet, tmp_path):
        path = tmp_path / "x.dng"
        path.write_bytes(raw_file(tags={51041: doubles(1e-3, 0, 2e-3, 1e-5, 3e-3, 2e-5)}))
        facts = json.loads(amsnet("noise", path, "--json").stdout)
        assert facts["source"] == "NoiseProfile"
        assert [law["a"] for law in facts["laws"]] == [1e-3, 2e-3, 3e-3]

    def test_other_photos(self, amsnet, noisy_png):
        result = amsnet("noise", noisy_png, "--plot")
        assert result.exit_code == 0, result.stderr
        assert "on a scale of 255, white" in result.stdout
        assert "luminance noise: as fine as pixels" in result.stdout and "#" in result.stdout
        assert "denoise tells the weights photo" in result.stdout
        facts = json.loads(amsnet("noise", noisy_png, "--json").stdout)
        assert facts["kind"] == "developed" and facts["white"]
        assert facts["level"] == pytest.approx(25, rel=0.15)
        assert all(0.7 < level / 25 < 1.3 for _, level in facts["by_brightness"])

    def test_what_denoise_is_told(self, amsnet, tmp_path, clean_crop):
        """Noise that neighbours share, three times as strong in blue."""
        noise = np.random.default_rng(0).normal(0, 1, (164, 196, 3)) * (8, 8, 24)
        shared = sum(noise[y : y + 160, x : x + 192] for y in (0, 1) for x in (0, 1)) / 2
        path = tmp_path / "x.png"
        pixels = (clean_crop * 0.6 + 60 + shared).clip(0, 255).round().astype(np.uint8)
        write_photo(Photo(pixels=pixels), path)
        said = amsnet("noise", path).stdout
        assert "luminance noise: shared by neighbours" in said
        facts = json.loads(amsnet("noise", path, "--json").stdout)
        means = {name: np.mean([s for _, s in curve]) for name, curve in facts["by_colour"].items()}
        assert 4 < means["red"] < 12 and 14 < means["blue"] < 34
        assert 1.3 < facts["grain_pixels"]["luma"] < 3 and facts["weights"] == "photo"
        told = said.splitlines()[-1].partition("denoise tells the weights photo: ")[2]
        result = amsnet("denoise", path, "-o", tmp_path / "y.png", "-v")
        assert told and f"denoised for noise of {told}" in result.stderr

    def test_grey_photos(self, amsnet, tmp_path, noisy_crop):
        path = tmp_path / "grey.png"
        write_photo(Photo(pixels=np.ascontiguousarray(noisy_crop[..., :1])), path)
        said = amsnet("noise", path).stdout
        assert "grey" in said and "colour" not in said
        facts = json.loads(amsnet("noise", path, "--json").stdout)
        assert list(facts["by_colour"]) == ["grey"] and facts["chroma_over_luma"] is None

    def test_cameras_are_remembered_listed_and_forgotten(self, amsnet, source, home):
        assert amsnet("noise", source).exit_code == 0
        assert not camera_noise_path().exists(), "only --remember writes"
        result = amsnet("noise", source, "--remember")
        assert result.exit_code == 0 and "remembered for Maker One" in result.stderr
        assert "Maker One" in amsnet("noise", "--cameras").stdout
        facts = json.loads(amsnet("noise", "--cameras", "--json").stdout)
        assert facts["photos"] == 1 and facts["iso"] == [6400]
        assert "other photos of the camera" in amsnet("noise", source).stdout
        again = camera_noise_path().read_bytes()
        assert amsnet("noise", source, "--remember").exit_code == 0
        assert camera_noise_path().read_bytes() == again, "what is remembered confirms itself"
        assert amsnet("noise", "--forget", "Maker One").exit_code == 0
        assert "no camera" in amsnet("noise", "--cameras").stderr
        assert amsnet("noise", "--forget", "Maker One").exit_code == 2

    def test_what_cannot_be(self, amsnet, source, tmp_path):
        for call in ([], ["--plot"], [source, "--cameras"], [source, "--plot", "--json"]):
            assert amsnet("noise", *call).exit_code == 2
        bad = tmp_path / "bad.dng"
        bad.write_bytes(b"x" * 100)
        assert amsnet("noise", bad).exit_code == 1
        result = amsnet("noise", tmp_path)
        assert result.exit_code == 3
        assert "bad.dng" in result.stderr and "x.dng" in result.stdout
        assert amsnet("noise", tmp_path / "none.dng").exit_code == 1
