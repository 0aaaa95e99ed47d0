"""PSD: against psd-tools, whole and damaged."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import colour
from amsnet_cli.photos.read import read_photo
from tests.test_photos import XMP, exif_block
from tests.test_round_trip import IPTC, PROFILES, smooth

psd_tools = pytest.importorskip("psd_tools", reason="makes the files")
from psd_tools.compression import compress  # noqa: E402
from psd_tools.constants import ColorMode, Compression  # noqa: E402
from psd_tools.psd.document import PSD  # noqa: E402
from psd_tools.psd.header import FileHeader  # noqa: E402
from psd_tools.psd.image_data import ImageData  # noqa: E402

RESOURCES = {1005: struct.pack(">IHHIHH", 300 << 16, 1, 1, 300 << 16, 1, 1), 1028: IPTC,
             1039: PROFILES["Display P3"], 1058: exif_block(6), 1060: XMP}  # fmt: skip


def psd(samples: np.ndarray, kind: Compression, *, big: bool = False,
        resources: dict[int, bytes] | None = None, layers: int = 0) -> bytes:  # fmt: skip
    """Encode (H, W, C) with psd-tools; the resources and the number of layers by hand."""
    height, width, channels = samples.shape
    depth, version = 8 * samples.itemsize, 2 if big else 1
    planes = np.moveaxis(samples, 2, 0).astype(samples.dtype.newbyteorder(">")).tobytes()
    data = compress(planes, kind, width, height * channels, depth, version)
    header = FileHeader(
        version=version, channels=channels, height=height, width=width, depth=depth,
        color_mode=ColorMode.RGB if channels >= 3 else ColorMode.GRAYSCALE,
    )  # fmt: skip
    file = io.BytesIO()
    PSD(header=header, image_data=ImageData(kind, data)).write(file)
    content, tail = file.getvalue(), struct.pack(">H", kind) + data
    blocks = b""
    for number, body in (resources or {}).items():
        blocks += b"8BIM" + struct.pack(">HHI", number, 0, len(body)) + body + bytes(len(body) % 2)
    form = ">Q" if big else ">I"
    info = struct.pack(form, 2) + struct.pack(">h", layers) if layers else b""
    assert content.endswith(tail)
    return (
        content[:26] + bytes(4) + struct.pack(">I", len(blocks)) + blocks
        + struct.pack(form, len(info)) + info + tail
    )  # fmt: skip


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("kind", list(Compression))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_files_of_psd_tools(tmp_path, dtype, channels, kind, big):
    samples = smooth(dtype, channels)
    (tmp_path / "x.psd").write_bytes(psd(samples, kind, big=big))
    read = read_photo(tmp_path / "x.psd")
    assert read.pixels.dtype == dtype and np.array_equal(read.pixels, samples)
    assert read.alpha is None and not read.notes
    assert colour.is_linear(read.icc) == (dtype == np.float32)


def test_metadata(tmp_path):
    content = psd(smooth(np.uint16, 3), Compression.RLE, resources=RESOURCES)
    (tmp_path / "x.psd").write_bytes(content)
    read = read_photo(tmp_path / "x.psd")
    assert (read.icc, read.xmp, read.iptc) == (PROFILES["Display P3"], XMP, IPTC)
    assert read.exif == exif_block(6) and read.orientation == 6 and read.dpi == (300, 300)


def test_8_bits_as_pillow_reads_them(tmp_path):
    psd_tools.PSDImage.frompil(Image.fromarray(smooth(np.uint8, 3))).save(tmp_path / "x.psd")
    read = read_photo(tmp_path / "x.psd")
    with Image.open(tmp_path / "x.psd") as image:
        assert np.array_equal(read.pixels, np.asarray(image))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_behind_half_transparent_colours_is_taken_off(tmp_path, dtype):
    straight = smooth(dtype, 4).astype(float)
    largest = float(np.iinfo(dtype).max)
    cover = straight[..., 3:] / largest
    mixed = straight.copy()
    mixed[..., :3] = straight[..., :3] * cover + largest * (1 - cover)
    content = psd(np.rint(mixed).astype(dtype), Compression.RLE, layers=-1)
    (tmp_path / "x.psd").write_bytes(content)
    read = read_photo(tmp_path / "x.psd")
    assert np.array_equal(read.alpha, straight[..., 3])
    assert np.abs(read.pixels - straight[..., :3]).max() <= 1
    assert read.notes == ("the layers are left out, the flattened picture is kept",)


def test_colours_darker_than_white_behind_them_are_as_they_are(tmp_path):
    samples = smooth(np.uint8, 4)
    samples[..., 3] = 100
    content = psd(samples, Compression.RLE, layers=-1)  # as ImageMagick writes it
    (tmp_path / "x.psd").write_bytes(content)
    assert np.array_equal(read_photo(tmp_path / "x.psd").samples, samples)


def test_further_channels_are_said(tmp_path):
    (tmp_path / "x.psd").write_bytes(psd(smooth(np.uint8, 4), Compression.RAW))
    read = read_photo(tmp_path / "x.psd")
    assert read.alpha is None and np.array_equal(read.pixels, smooth(np.uint8, 3))
    assert read.notes == ("1 further channels are left out",)


def test_what_is_no_rgb_or_not_flattened_is_refused(tmp_path):
    content = bytearray(psd(smooth(np.uint8, 4), Compression.RAW))
    content[25] = 4
    (tmp_path / "x.psd").write_bytes(content)
    with pytest.raises(PhotoError, match="PSD with CMYK colours"):
        read_photo(tmp_path / "x.psd")
    empty = {1057: struct.pack(">IB", 1, 0)}
    (tmp_path / "x.psd").write_bytes(psd(smooth(np.uint8, 3), Compression.RLE, resources=empty))
    with pytest.raises(PhotoError, match="maximum compatibility"):
        read_photo(tmp_path / "x.psd")


@pytest.mark.parametrize("kind", list(Compression))
def test_truncated_files_are_refused(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = psd(noise, kind, resources=RESOURCES)
    for keep in (0.001, 0.01, 0.05, 0.5, 0.99):
        (tmp_path / "x.psd").write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(PhotoError, match=r"x\.psd"):
            read_photo(tmp_path / "x.psd")


def test_flipped_bytes_in_zipped_pixels_are_noticed(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = psd(noise, Compression.ZIP)
    for place in range(100, len(content), 500):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        (tmp_path / "x.psd").write_bytes(damaged)
        with pytest.raises(PhotoError, match=r"x\.psd"):
            read_photo(tmp_path / "x.psd")


def test_wrong_run_lengths_are_noticed(tmp_path):
    content = psd(smooth(np.uint8, 3), Compression.RLE)
    counts = content.index(b"\0\1", 26 + 12)
    for place in range(counts + 2, counts + 60):
        damaged = bytearray(content)
        damaged[place] ^= 1
        (tmp_path / "x.psd").write_bytes(damaged)
        with pytest.raises(PhotoError, match=r"x\.psd"):
            read_photo(tmp_path / "x.psd")
