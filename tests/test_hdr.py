"""Radiance HDR: files of OpenCV and imagecodecs, read as OpenCV reads them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import colour
from amsnet_cli.photos.colour_model import colour_model_of
from amsnet_cli.photos.read import read_photo
from tests.test_round_trip import smooth

imagecodecs = pytest.importorskip("imagecodecs", reason="the codecs extra")
cv2 = pytest.importorskip("cv2", reason="the training extra")


def with_opencv(path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1]


@pytest.mark.parametrize("writer", ["opencv", "opencv, plain", "imagecodecs"])
def test_files_of_others(tmp_path, writer):
    pixels = np.abs(smooth(np.float32, 3))
    path = tmp_path / "x.hdr"
    if writer == "imagecodecs":
        path.write_bytes(imagecodecs.rgbe_encode(pixels, header=True))
    else:
        kind = cv2.IMWRITE_HDR_COMPRESSION_NONE if "plain" in writer else 1
        cv2.imwrite(str(path), pixels[..., ::-1], [cv2.IMWRITE_HDR_COMPRESSION, kind])
    read = read_photo(path)
    assert read.pixels.dtype == np.float32
    assert np.array_equal(read.pixels, with_opencv(path))
    assert np.abs(read.pixels - pixels).max() < 0.02
    assert colour.is_linear(read.icc)


def test_header_lines_are_said_and_odd_ones_refused(tmp_path):
    content = imagecodecs.rgbe_encode(np.abs(smooth(np.float32, 3)), header=True)
    path = tmp_path / "x.hdr"
    path.write_bytes(content.replace(b"FORMAT", b"EXPOSURE=2\nFORMAT", 1))
    assert read_photo(path).notes == ("header lines left out: EXPOSURE",)
    path.write_bytes(content.replace(b"FORMAT", b"EXPOSURE=1.0\nCOLORCORR= 1 1 1\nFORMAT", 1))
    assert not read_photo(path).notes
    for old, new in (
        (b"rgbe", b"xyze"), (b"-Y", b"+Y"), (b"FORMAT", b"PRIMARIES=1\nFORMAT"),
        (b"FORMAT", b"GAMMA=0.454545\nFORMAT"),
    ):  # fmt: skip
        path.write_bytes(content.replace(old, new, 1))
        with pytest.raises(PhotoError, match=r"x\.hdr: Radiance HDR that is not"):
            read_photo(path)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("0.64 0.33 0.3 0.6 0.15 0.06 0.3127 0.329", colour.BT709),  # ImageMagick
        ("0.6400 0.3300 0.2900 0.6000 0.1500 0.0600 0.3333 0.3333",  # Radiance, libvips
         (0.3333, 0.3333, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06)),
    ],
)  # fmt: skip
def test_stated_primaries_are_kept(tmp_path, stated, expected):
    content = imagecodecs.rgbe_encode(np.abs(smooth(np.float32, 3)), header=True)
    path = tmp_path / "x.hdr"
    path.write_bytes(content.replace(b"FORMAT", f"PRIMARIES={stated}\nFORMAT".encode(), 1))
    model = colour_model_of(read_photo(path).icc)
    assert model.chromaticities == pytest.approx(expected, abs=0.001) and model.curve == (1.0,)


@pytest.mark.parametrize("keep", [0.002, 0.01, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path, keep):
    noise = np.random.default_rng(0).random((64, 64, 3), np.float32)
    content = imagecodecs.rgbe_encode(noise, header=True)
    (tmp_path / "x.hdr").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(PhotoError, match=r"x\.hdr"):
        read_photo(tmp_path / "x.hdr")


def test_wrong_run_lengths_are_noticed(tmp_path):
    content = imagecodecs.rgbe_encode(np.full((16, 64, 3), 0.5, np.float32), header=True)
    start = content.index(b"\x02\x02\x00\x40")
    places = [at for at in range(start + 4, len(content), 2) if content[at] > 128]
    assert places, "of each pair, the run's length"
    for place in places:
        damaged = bytearray(content)
        damaged[place] += 1
        (tmp_path / "x.hdr").write_bytes(damaged)
        with pytest.raises(PhotoError, match=r"x\.hdr"):
            read_photo(tmp_path / "x.hdr")


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "x.hdr").write_bytes(b"#?RADIANCE\n\n-Y 1 +X 1\n\0\0\0\0")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(PhotoError, match=r'pip install "amsnet\[codecs\]"'):
        read_photo(tmp_path / "x.hdr")
