"""Mosaics that are denoised before development: noise, tiles, strength, the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from amsnet_cli import __version__
from amsnet_cli.errors import DeviceError, WeightsError
from amsnet_cli.inference.denoise_mosaic import MosaicOptions, denoise_mosaic
from amsnet_cli.inference.mosaic_noise import SensorNoiseFound, find_noise
from amsnet_cli.model import load_model
from amsnet_cli.mosaic_model import load_mosaic_model, save_mosaic_model
from amsnet_cli.noise.sensor import SensorNoise
from amsnet_cli.photos import ifd
from amsnet_cli.photos.formats.raw import read_mosaic
from amsnet_cli.photos.read import read_photo
from amsnet_cli.postprocess.mosaic_blend import MosaicBlend, kept_noise, likely_detail
from amsnet_cli.weights.store import find_weights
from tests.dng_files import (
    BLACK,
    RGGB,
    WHITE,
    XTRANS,
    XYZ_TO_SRGB,
    dng,
    doubles,
    exposed,
    longs,
    rationals,
    shorts,
)
from tests.test_mosaic import PATTERNS

X = Path("x.dng")
CPU = torch.device("cpu")
NOISE = SensorNoiseFound(laws=(SensorNoise(a=1e-3, b=1e-5),), source="test")


@pytest.fixture
def model_file(mosaic_model, tmp_path) -> Path:
    path = tmp_path / "mosaics.safetensors"
    save_mosaic_model(path, mosaic_model.network, dtype=torch.float32)
    return path


def mosaic_of(pattern=RGGB, size=(150, 170), **tags):
    light = np.repeat(np.linspace(0.05, 0.6, size[1])[None], size[0], 0)
    light[:30, :30] = 4
    return read_mosaic(X, dng(exposed(light, pattern, noise=60), pattern=pattern, **tags))


def blended(mosaic, mosaic_model, **blend):
    options = MosaicOptions(blend=MosaicBlend(**blend))
    return denoise_mosaic(mosaic, mosaic_model, NOISE, options, device=CPU)


class TestNoise:
    def test_what_the_file_says_comes_first(self):
        mosaic = mosaic_of(tags={51041: doubles(1e-4, 2e-7)})
        found = find_noise(mosaic)
        assert found.source == "NoiseProfile"
        assert [(law.a, law.b) for law in found.laws] == [(1e-4, 2e-7)]

    def test_a_profile_without_slope(self):
        found = find_noise(mosaic_of(tags={51041: doubles(0, 1e-6)}))
        assert found.laws[0].b == 1e-6 and 0 < found.laws[0].a <= 1e-8

    def test_else_it_is_estimated(self):
        rng = np.random.default_rng(0)
        light = np.clip(np.repeat(np.linspace(0.02, 0.9, 512)[None], 512, 0), 0, 1)
        a, b = 1.5e-3, 2e-5
        clean = exposed(light).astype(float)
        unit = (clean - BLACK) / (WHITE - BLACK)
        noisy = clean + rng.normal(size=clean.shape) * np.sqrt(a * unit + b) * (WHITE - BLACK)
        mosaic = read_mosaic(X, dng(noisy.round().clip(0, WHITE).astype(np.uint16)))
        found = find_noise(mosaic)
        assert found.source == "estimate with ISO"
        assert float(found.laws[0].a) == pytest.approx(a, rel=0.3)
        large = replace(
            mosaic, frame=np.tile(mosaic.frame, (4, 4)), area=(0, 2048, 0, 2048),
            crop=(0, 2048, 0, 2048),
        )  # fmt: skip
        sampled = find_noise(large)
        assert float(sampled.laws[0].a) == pytest.approx(float(found.laws[0].a), rel=0.2)


class TestDenoising:
    @pytest.mark.parametrize("name", PATTERNS)
    def test_tiles_are_not_seen(self, mosaic_model, name):
        """Tiles that overlap by the network's reach give what the whole mosaic gives."""
        mosaic = mosaic_of(PATTERNS[name])
        whole = denoise_mosaic(mosaic, mosaic_model, NOISE, device=CPU)
        tiled = denoise_mosaic(mosaic, mosaic_model, NOISE, MosaicOptions(tile=96), device=CPU)
        assert (whole.values != mosaic.values).mean() > 0.5
        difference = np.abs(whole.values.astype(int) - tiled.values)
        moved = np.abs(whole.values.astype(int) - mosaic.values)
        assert difference.max() <= max(2, 0.02 * moved.max())

    def test_strength(self, mosaic_model):
        mosaic = mosaic_of(tags={51041: doubles(1e-3, 1e-5)})
        none, half, full = (blended(mosaic, mosaic_model, luma=s, chroma=s) for s in (0, 0.5, 1))
        assert np.array_equal(none.frame, mosaic.frame)
        assert none.noise_profile == mosaic.noise_profile
        between = (mosaic.values.astype(float) + full.values) / 2
        assert np.abs(half.values - between).max() <= 1
        assert half.noise_profile == ((pytest.approx(2.5e-4), pytest.approx(2.5e-6)),)
        assert full.noise_profile == ()

    @pytest.mark.parametrize("name", PATTERNS)
    def test_luma_and_chroma_share_what_is_removed(self, mosaic_model, name):
        mosaic = mosaic_of(PATTERNS[name], tags={51041: doubles(1e-3, 1e-5)})
        full, luma, chroma = (
            blended(mosaic, mosaic_model, luma=x, chroma=y) for x, y in ((1, 1), (1, 0), (0, 1))
        )
        before = mosaic.values.astype(float)
        parts = [x.values - before for x in (luma, chroma)]
        assert np.abs(sum(parts) - (full.values - before)).max() <= 2
        if name == "monochrome":
            assert not parts[1].any()
        else:
            assert all(np.abs(part).mean() > 1 for part in parts)
            assert 0 < luma.noise_profile[0][0] < 1e-3

    def test_a_region(self, mosaic_model):
        mosaic = mosaic_of(size=(300, 310))
        whole = denoise_mosaic(mosaic, mosaic_model, NOISE, device=CPU).values
        options = MosaicOptions(region=(51, 120, 40, 201))
        part = denoise_mosaic(mosaic, mosaic_model, NOISE, options, device=CPU).values
        inside = np.zeros(whole.shape, bool)
        inside[51:120, 40:201] = True
        assert np.array_equal(part[~inside], mosaic.values[~inside])
        assert np.abs(part.astype(int) - whole)[inside].max() <= 2

    def test_too_little_memory(self, mosaic_model):
        with pytest.raises(DeviceError, match="too little memory"):
            options = MosaicOptions(max_memory=10_000_000)
            denoise_mosaic(mosaic_of(), mosaic_model, NOISE, options, device=CPU)

    def test_saturated_photosites_stay(self, mosaic_model):
        mosaic = mosaic_of()
        result = denoise_mosaic(mosaic, mosaic_model, NOISE, device=CPU)
        clipped = mosaic.values >= mosaic.saturation
        assert clipped.sum() > 100
        assert np.array_equal(result.values[clipped], mosaic.values[clipped])

    def test_a_law_for_each_colour(self, mosaic_model):
        mosaic = mosaic_of()
        same = SensorNoiseFound(laws=NOISE.laws * 3, source="test")
        one, three = (denoise_mosaic(mosaic, mosaic_model, n, device=CPU) for n in (NOISE, same))
        assert np.abs(one.values.astype(int) - three.values).max() <= 1

    def test_the_smallest_mosaics_are_kept(self, mosaic_model):
        mosaic = mosaic_of(size=(30, 60))
        assert denoise_mosaic(mosaic, mosaic_model, NOISE, device=CPU) is mosaic


class TestBlend:
    """Noise that all colours share is luma; what differs between smooth colours is chroma."""

    @pytest.mark.parametrize("pattern", [RGGB, XTRANS])
    def test_luma_and_chroma(self, pattern):
        colours = torch.stack([tiled(torch.from_numpy(pattern == c)) for c in range(3)])[None]
        colours, gains = colours.float(), torch.tensor([2.0, 1.0, 1.6])
        gain = (colours * gains[:, None, None]).sum(1, keepdim=True)
        grain = torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
        grey = torch.linspace(-1, 1, 96)[:, None].expand(1, 1, 96, 96) / gain
        red = colours[:, :1] / gain
        no_luma, no_chroma = MosaicBlend(luma=0), MosaicBlend(chroma=0)

        def stays(removed, blend):
            return kept_noise(removed, colours, gains, blend)[..., 12:-12, 12:-12]

        inner = grey[..., 12:-12, 12:-12]
        assert (stays(grey, no_luma) - inner).abs().max() < 0.1
        assert stays(grey, no_chroma).abs().max() < 0.1
        green = colours[:, 1:2, 12:-12, 12:-12] > 0
        share = float(colours[:, :1].mean())
        assert stays(red, no_luma)[green] == pytest.approx(share, abs=1e-4), "luma of red"
        assert stays(red, no_chroma)[green] == pytest.approx(-share, abs=1e-4)
        both = kept_noise(grain, colours, gains, MosaicBlend(luma=0.3, chroma=0.3))
        assert torch.allclose(both, 0.7 * grain)

    def test_detail_is_what_exceeds_the_noise(self):
        noise = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
        blend = MosaicBlend(detail=1)
        assert likely_detail(noise, blend).mean() < 0.01
        found = likely_detail(3 * noise, blend)
        assert 0.7 < found.mean() < 8 / 9


def tiled(tile: torch.Tensor) -> torch.Tensor:
    return tile.repeat(-(-96 // tile.shape[0]), -(-96 // tile.shape[1]))[:96, :96]


class TestFiles:
    def test_a_model_comes_back(self, mosaic_model, model_file, tmp_path):
        again = load_mosaic_model(model_file)
        assert again.network.config == mosaic_model.network.config
        tensors = mosaic_model.network.state_dict()
        assert all(torch.equal(tensors[k], t) for k, t in again.network.state_dict().items())

    def test_models_are_for_one_thing(self, model_file, tiny_model):
        with pytest.raises(WeightsError, match="is for mosaics of RAW files"):
            load_model(model_file)
        with pytest.raises(WeightsError, match="is for developed photos"):
            load_mosaic_model(Path(tiny_model))
        model_file.write_bytes(model_file.read_bytes()[:-8])
        with pytest.raises(WeightsError, match="is not an amsnet model"):
            load_mosaic_model(model_file)


class TestCommand:
    @pytest.fixture
    def source(self, tmp_path) -> Path:
        path = tmp_path / "x.dng"
        path.write_bytes(self.content())
        return path

    @staticmethod
    def content(**tags) -> bytes:
        light = np.repeat(np.linspace(0.05, 0.6, 160)[None], 128, 0)
        profile = {51041: doubles(1e-3, 1e-5)}
        return dng(exposed(light, noise=60), tags=profile | tags.get("tags", {}))

    @pytest.fixture
    def denoised(self, amsnet, source, model_file, tmp_path):
        """Denoise the source into a file."""

        def run(name, *more, weights=model_file):
            out = tmp_path / name
            chosen = ["-w", weights] if weights else []
            result = amsnet("denoise", source, "-o", out, "-f", *chosen, *more)
            assert result.exit_code == 0, result.stderr
            return out, result.stderr

        return run

    def test_dng_to_dng(self, denoised, source):
        before = read_mosaic(source, source.read_bytes())
        for strength, same in (("0", True), ("1", False)):
            out, said = denoised("y.dng", "--strength", strength)
            after = read_mosaic(out, out.read_bytes())
            assert np.array_equal(before.frame, after.frame) == same
            assert bool(after.noise_profile) == same
        assert "160x128, 16 bit," in said and "(noise by NoiseProfile)" in said
        with tifffile.TiffFile(out) as file:
            software = file.pages[0].tags[305].value
        assert software == f"amsnet {__version__} (mosaics, strength 1)"

    def test_every_format_is_denoised_before_development(self, denoised, amsnet, source, tmp_path):
        pixels = {
            name: tifffile.imread(denoised("y.tif", *more)[0]).astype(int)
            for name, more in {"denoised": (), "kept": ("--strength", 0)}.items()
        }
        assert pixels["denoised"].shape == (128, 160, 3)
        assert np.abs(pixels["denoised"] - pixels["kept"]).mean() > 10
        plain, said = denoised("y.tif", "--raw", "developed", "--strength", 0, weights=None)
        assert "photo" in said
        assert np.abs(tifffile.imread(plain).astype(int) - pixels["kept"]).max() <= 1
        linear, _ = denoised("y.tif", "--develop", "linear", "--strength", 0)
        assert np.abs(tifffile.imread(linear).astype(int) - pixels["kept"]).mean() > 1000

    @pytest.mark.parametrize("raw", ["mosaic", "developed"])
    def test_a_jpeg_needs_no_option(self, denoised, raw):
        """RAW has no depth of its own that could be lost."""
        more, weights = ("--raw", raw, "--strength", 0), None
        deep = tifffile.imread(denoised("y.tif", *more, weights=weights)[0]) / 257
        out, said = denoised("y.jpg", *more, weights=weights)
        assert "160x128, 8 bit," in said
        assert np.abs(read_photo(out).pixels - deep).mean() < 2

    def test_linear_light_needs_more_than_8_bits(self, amsnet, source, model_file, tmp_path):
        call = ("denoise", source, "-o", tmp_path / "y.jpg", "-w", model_file)
        refused = amsnet(*call, "--develop", "linear")
        assert refused.exit_code == 1 and "cannot hold 16 bits" in refused.stderr
        assert amsnet(*call, "--develop", "linear", "--depth", 8).exit_code == 0
        assert amsnet(*call, "-f", "--depth", 16).exit_code == 1

    @pytest.mark.parametrize("orientation", [1, 6])
    def test_a_crop_is_that_of_the_whole_picture(self, denoised, source, orientation):
        crop = {50719: longs(10, 6), 50720: longs(140, 110), 274: shorts(orientation)}
        source.write_bytes(self.content(tags=crop))
        whole = tifffile.imread(denoised("y.tif")[0]).astype(int)
        part = tifffile.imread(denoised("y.tif", "--crop", "20,8,50,60")[0]).astype(int)
        assert part.shape == (60, 50, 3)
        assert np.abs(part - whole[8:68, 20:70]).max() <= 0.01 * 65535

    def test_options_of_other_photos_work_as_well(self, denoised, tmp_path):
        page = tmp_path / "page.html"
        out, _ = denoised("y.tif", "--report", page, "--tile", 64, "--max-memory", "6G")
        assert "noise" in page.read_text() and "NoiseProfile" in page.read_text()
        full = tifffile.imread(out).astype(int)
        tile = tifffile.imread(
            denoised("y.tif", "--luma", 0.5, "--chroma", 0.7, "--detail", 0.2)[0]
        )
        assert np.abs(full - tile).mean() > 10

    def test_json(self, amsnet, source, model_file, tmp_path):
        for name in ("y.dng", "y.tif"):
            result = amsnet("denoise", source, "-o", tmp_path / name, "-w", model_file, "--json")
            told = json.loads(result.stdout)
            assert told["status"] == "done" and told["weights"] == str(model_file)
            assert told["noise_after"] is not None or told["noise_before"] is None

    def test_what_holds_no_mosaic_is_denoised_developed(self, amsnet, tiny_model, tmp_path):
        linear, out = tmp_path / "linear.dng", tmp_path / "y.tif"
        linear.write_bytes(linear_dng())
        result = amsnet("denoise", linear, "-o", out, "-w", tiny_model)
        assert result.exit_code == 0, result.stderr
        assert "denoised after development (it holds no mosaic" in result.stderr
        assert tifffile.imread(out).shape == (64, 80, 3)
        result = amsnet("denoise", linear, "-o", tmp_path / "y.dng")
        assert result.exit_code == 1 and "no mosaic" in result.stderr

    def test_a_photo_whose_noise_nobody_knows(self, amsnet, tiny_model, tmp_path):
        black = tmp_path / "black.dng"
        black.write_bytes(dng(np.full((96, 96), 60000, np.uint16)))
        result = amsnet("denoise", black, "-o", tmp_path / "y.tif")
        assert result.exit_code == 0 and "denoised after development (too little" in result.stderr
        result = amsnet("denoise", black, "-o", tmp_path / "y.dng")
        assert result.exit_code == 1 and "too little of the picture" in result.stderr

    def test_sidecars(self, denoised, source, tmp_path):
        sidecars = {"x.xmp": b"<adobe/>", "x.dng.xmp": b"<darktable/>"}
        for name, content in sidecars.items():
            (tmp_path / name).write_bytes(content)
        denoised("y.dng")
        assert not (tmp_path / "y.xmp").exists()
        denoised("y.dng", "--sidecar")
        assert (tmp_path / "y.xmp").read_bytes() == b"<adobe/>"
        assert (tmp_path / "y.dng.xmp").read_bytes() == b"<darktable/>"
        _, said = denoised("z.tif", "--sidecar")
        assert "x.xmp is not copied" in said and not (tmp_path / "z.xmp").exists()

    def test_what_cannot_be(self, amsnet, source, model_file, tiny_model, tmp_path):
        out, photo = tmp_path / "y.dng", tmp_path / "x.tif"
        tifffile.imwrite(photo, np.zeros((40, 40, 3), np.uint8))
        result = amsnet("denoise", photo, "-o", out, "-w", model_file)
        assert result.exit_code == 1 and "no RAW file" in result.stderr
        result = amsnet("denoise", photo, "-o", tmp_path / "y.tif", "-w", model_file)
        assert result.exit_code == 4 and "for mosaics of RAW files" in result.stderr
        for target in (out, tmp_path / "y.tif"):
            result = amsnet("denoise", source, "-o", target, "-w", tiny_model)
            assert result.exit_code == 4 and "--raw developed" in result.stderr
        for option in (("--crop", "0,0,32,32"), ("--masks", 2), ("--strip-metadata",)):
            result = amsnet("denoise", source, "-o", out, *option)
            assert result.exit_code == 2 and option[0] in result.stderr.replace("whole", "--crop")
        result = amsnet("denoise", source, "-o", out, "--max-memory", "50M", "-w", model_file)
        assert result.exit_code == 5 and "too little memory" in result.stderr
        (tmp_path / "x.xmp").write_bytes(b"1")
        (tmp_path / "y.xmp").write_bytes(b"2")
        result = amsnet("denoise", source, "-o", out, "--sidecar")
        assert result.exit_code == 1 and "y.xmp: exists already" in result.stderr
        assert not out.exists()


def linear_dng() -> bytes:
    """Three samples a pixel, as after demosaicking."""
    content = dng(np.full((64, 80 * 3), 8000, np.uint16), pattern=None)
    tree = ifd.read_tree(content)
    tree |= {
        256: longs(80), 258: shorts(16, 16, 16), 277: shorts(3), 50714: shorts(BLACK, BLACK, BLACK),
        50713: shorts(1, 1), 50717: shorts(WHITE, WHITE, WHITE),
        50721: rationals(XYZ_TO_SRGB, signed=True), 50728: rationals((1, 1, 1)),
    }  # fmt: skip
    return ifd.append_tree(b"II*\0\0\0\0\0" + content[8 : 8 + 64 * 80 * 6], tree)


@pytest.mark.parametrize("iso", [True, False])
def test_an_estimate_from_the_pixels_alone_is_said_to_be_cautious(amsnet, tmp_path, iso):
    rng = np.random.default_rng(0)
    values = (2000 + 300 * rng.standard_normal((160, 192))).astype(np.uint16)
    exposure = {33434: rationals([0.01]), **({34855: shorts(6400)} if iso else {})}
    path = tmp_path / "a.dng"
    path.write_bytes(dng(values, tags={ifd.EXIF_IFD: exposure}))
    result = amsnet("denoise", path, "-o", tmp_path / "b.dng")
    assert result.exit_code == 0
    assert ("does not tell the ISO" in result.stderr) != iso


def test_strength_multiplies_the_noise_that_the_network_is_told():
    law = SensorNoise(a=2e-3, b=1e-4)
    light = np.full((160, 192), 0.3)
    noisy = light + float(law.variance(torch.tensor(0.3))) ** 0.5 * np.random.default_rng(
        0
    ).standard_normal(light.shape)
    values = np.rint(BLACK + noisy * (WHITE - BLACK)).clip(0).astype(np.uint16)
    mosaic = read_mosaic(Path("x"), dng(values, tags={51041: doubles(2e-3, 1e-4)}))
    model = load_mosaic_model(find_weights("raw"))

    def left(strength: float) -> tuple[float, float]:
        """Standard deviation that is left, and what the result says of its noise."""
        options = MosaicOptions(strength=strength)
        result = denoise_mosaic(mosaic, model, find_noise(mosaic), options, device=CPU)
        stated = result.noise_profile[0][1] / 1e-4 if result.noise_profile else 0.0
        return float((result.light() - 0.3).std() / (noisy - 0.3).std()), stated

    (weak, stated), (full, nothing), (strong, none) = map(left, (0.5, 1.0, 2.0))
    assert strong < full < weak < 1
    assert nothing == none == 0
    assert stated == pytest.approx(weak**2, abs=0.15), "a variance"
