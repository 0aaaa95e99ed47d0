"""RAW files, made here: a minimal DNG of a Bayer sensor (DNG 1.4)."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import colour, ifd
from amsnet_cli.photos.formats.raw import RawOptions
from amsnet_cli.photos.formats.raw import read as read_raw
from amsnet_cli.photos.pixel_codec import with_depth
from amsnet_cli.photos.read import read_photo

BLACK, WHITE = 512, 15000
NEUTRAL = (0.5, 1.0, 0.625)
"""What a grey surface gives in red, green and blue."""


def bayer_dng(mosaic: np.ndarray, *, size: tuple[int, int] | None = None, neutral=NEUTRAL) -> bytes:
    """Make a DNG file of an RGGB mosaic whose camera sees as sRGB does, but for white balance."""
    height, width = size or mosaic.shape
    xyz_to_srgb = np.array(
        [[3.2405, -1.5371, -0.4985], [-0.9693, 1.8760, 0.0416], [0.0556, -0.2040, 1.0572]]
    )
    to_camera = np.array(neutral)[:, None] * xyz_to_srgb

    def shorts(*values: int) -> ifd.Entry:
        packed = struct.pack(f"<{len(values)}H", *values)
        return ifd.Entry(type=3, count=len(values), value=packed)

    def longs(*values: int) -> ifd.Entry:
        packed = struct.pack(f"<{len(values)}I", *values)
        return ifd.Entry(type=4, count=len(values), value=packed)

    def rationals(kind: int, values: np.ndarray) -> ifd.Entry:
        pairs = [n for v in np.ravel(values) for n in (round(float(v) * 10000), 10000)]
        packed = struct.pack(f"<{len(pairs)}" + ("i" if kind == 10 else "I"), *pairs)
        return ifd.Entry(type=kind, count=len(pairs) // 2, value=packed)

    def text(value: str) -> ifd.Entry:
        return ifd.Entry(type=2, count=len(value) + 1, value=value.encode() + b"\0")

    pixels = mosaic.astype("<u2").tobytes()
    exposure: ifd.Directory = {33434: rationals(5, np.array([0.01])), 34855: shorts(6400)}
    tree: ifd.Directory = {
        254: longs(0), 256: longs(width), 257: longs(height), 258: shorts(16), 259: shorts(1),
        262: shorts(32803), 271: text("Test"), 272: text("Test One"), 273: longs(8),
        274: shorts(1), 277: shorts(1), 278: longs(height), 279: longs(len(pixels)),
        284: shorts(1), 33421: shorts(2, 2),
        33422: ifd.Entry(type=1, count=4, value=b"\0\1\1\2"),
        50706: ifd.Entry(type=1, count=4, value=b"\1\4\0\0"), 50708: text("Test One"),
        50714: shorts(BLACK), 50717: shorts(WHITE), 50721: rationals(10, to_camera),
        50728: rationals(5, np.array(neutral)), 50778: shorts(21), ifd.EXIF_IFD: exposure,
    }  # fmt: skip
    return ifd.append_tree(b"II*\0\0\0\0\0" + pixels, tree)


def mosaic_of(light: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """Expose (H, W) grey light in [0, 1]; noise in steps of the sensor."""
    gain = np.tile([[NEUTRAL[0], NEUTRAL[1]], [NEUTRAL[1], NEUTRAL[2]]], np.array(light.shape) // 2)
    values = BLACK + light * gain * (WHITE - BLACK)
    values = values + np.random.default_rng(0).normal(0, noise, light.shape)
    return values.round().clip(0, WHITE).astype(np.uint16)


@pytest.fixture
def developed(tmp_path):
    def develop(light: np.ndarray, noise: float = 0.0, **options):
        path = tmp_path / "x.dng"
        path.write_bytes(bayer_dng(mosaic_of(light, noise)))
        return read_photo(path, RawOptions(**options))

    return develop


class TestLevels:
    def test_a_dark_frame_is_black_on_average_and_clipped_on_neither_side(self, developed):
        for development in ("camera", "linear"):
            pixels = developed(np.zeros((256, 256)), 30, development=development).pixels
            light = pixels if development == "linear" else colour.decode(pixels)
            step = 1 / (WHITE - BLACK)
            assert np.abs(light.mean((0, 1))).max() < step
            below = (light < 0).mean((0, 1))
            assert (below > 0.45).all() and (below < 0.55).all()
            skew = ((light - light.mean()) ** 3).mean() / light.std() ** 3
            assert abs(skew) < 0.05

    def test_a_ramp_of_grey_is_grey_and_straight(self, developed):
        ramp = np.repeat(np.linspace(0, 1, 256)[None], 64, 0)
        for development in ("camera", "linear"):
            pixels = developed(ramp, development=development).pixels[8:-8]
            light = pixels if development == "linear" else colour.decode(pixels)
            assert np.abs(light - ramp[8:-8, :, None])[:, 8:-8].max() < 0.01
            assert np.ptp(light, 2)[:, 8:-8].max() < 0.005, "grey"

    @pytest.mark.parametrize("highlights", ["clip", "blend", "rebuild"])
    def test_blown_highlights_are_white(self, developed, highlights):
        light = np.full((64, 64), 0.2)
        light[:, 32:] = 4.0
        pixels = developed(light, highlights=highlights, development="camera").pixels
        blown = colour.decode(pixels[16:-16, 44:-12]).mean((0, 1))
        assert np.ptp(blown) < 0.03 * blown.max(), "neither pink nor green"
        if highlights == "clip":
            assert blown.min() > 0.99

    def test_development_is_linear_light_or_srgb(self, developed):
        grey = np.full((64, 64), 0.18)
        camera = developed(grey, development="camera")
        linear = developed(grey, development="linear")
        assert colour.is_linear(linear.icc) and not colour.is_linear(camera.icc)
        assert with_depth(camera, 8).pixels.mean() == pytest.approx(118, abs=1)
        assert with_depth(linear, 16).pixels.mean() == pytest.approx(0.18 * 65535, rel=0.01)


class TestFiles:
    def test_a_tiff_of_16_bits_with_the_camera_s_exif(self, amsnet, tiny_model, tmp_path):
        (tmp_path / "x.dng").write_bytes(bayer_dng(mosaic_of(np.full((64, 64), 0.18), 50)))
        for development in ("auto", "linear"):
            out = tmp_path / f"{development}.tif"
            result = amsnet(
                "denoise",
                tmp_path / "x.dng",
                "-o",
                out,
                "-w",
                tiny_model,
                "--raw",
                "developed",
                "--develop",
                development,
            )
            assert result.exit_code == 0, result.stderr
            assert "64x64, 16 bit" in result.stderr
            assert tifffile.imread(out).dtype == np.uint16
            with tifffile.TiffFile(out) as file:
                tags = {tag.code: tag.value for tag in file.pages[0].tags}
            assert tags[271] == "Test" and tags[34665]["ISOSpeedRatings"] == 6400
            assert colour.is_linear(tags[34675]) == (development == "linear")
        with Image.open(tmp_path / "auto.tif") as image:
            assert image.mode == "RGB"

    def test_linear_photos_are_denoised_as_their_developed_twins(self, amsnet, tmp_path):
        """The network sees linear light through a curve, or it would not know the dark parts."""
        ramp = np.repeat(np.linspace(0.02, 0.5, 128)[None], 128, 0)
        (tmp_path / "x.dng").write_bytes(bayer_dng(mosaic_of(ramp, 150)))
        light = []
        for development in ("camera", "linear"):
            out = tmp_path / f"{development}.tif"
            call = ["denoise", tmp_path / "x.dng", "-o", out, "--raw", "developed"]
            call += ["--develop", development]
            assert amsnet(*call).exit_code == 0
            pixels = tifffile.imread(out) / np.float32(65535)
            light.append(pixels if development == "linear" else colour.decode(pixels))
        camera, linear = (np.abs(x - ramp[..., None])[16:-16, 16:-16].mean() for x in light)
        assert linear < 1.5 * camera

    def test_without_a_white_balance_it_is_estimated_and_said(self, tmp_path):
        content = bayer_dng(mosaic_of(np.full((64, 64), 0.18)))
        without = content.replace(
            struct.pack("<HHI", 50728, 5, 3), struct.pack("<HHI", 60000, 5, 3)
        )
        photo = read_raw(tmp_path / "x.dng", without)
        assert photo.pixels.shape == (64, 64, 3)

    def test_reasons(self, tmp_path):
        path = tmp_path / "x.dng"
        path.write_bytes(b"no raw file at all" * 100)
        with pytest.raises(PhotoError, match=r"LibRaw cannot develop it \(Unsupported file"):
            read_photo(path)
        content = bayer_dng(mosaic_of(np.full((256, 256), 0.18)))
        cut = content[: 8 + 40_000] + bytes(len(content) - 90_000)
        tree = ifd.read_tree(content)
        path.write_bytes(ifd.append_tree(b"II*\0\0\0\0\0" + cut[8:40_000], tree))
        with pytest.raises(PhotoError, match="cut short|LibRaw"):
            read_photo(path)


def test_of_two_frames_the_first_is_read_and_that_is_said(tmp_path):
    first, second = (bayer_dng(np.full((64, 96), value, np.uint16)) for value in (2000, 9000))
    tree = ifd.read_tree(second)
    place = len(first) + len(first) % 2
    tree[273] = ifd.Entry(type=4, count=1, value=struct.pack("<I", place))
    both = ifd.append_tree(first.ljust(place, b"\0") + second[8:][: 64 * 96 * 2], tree)
    tree = ifd.read_tree(first)
    tree[330] = ifd.Entry(type=4, count=1, value=both[4:8])
    (tmp_path / "x.dng").write_bytes(ifd.append_tree(both, tree))
    (tmp_path / "one.dng").write_bytes(first)
    photo = read_photo(tmp_path / "x.dng")
    assert photo.notes == ("only the first of 2 frames is kept",)
    assert np.array_equal(photo.pixels, read_photo(tmp_path / "one.dng").pixels)
