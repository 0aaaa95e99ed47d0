"""Files that are broken, absurd or meant to harm: each is a picture or one clear error."""

from __future__ import annotations

import collections
import importlib.util
import json
import os
import resource
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import with_depth
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import write_photo
from tests.conftest import SHARED
from tests.pictures import save_one_of_each
from tests.test_raw import bayer_dng
from tests.test_round_trip import CASES, png_chunk, smooth, write_heic

ONE_OF_EACH = {
    "jpeg1.jpg", "jpeg2.jpg", "cmyk.jpg", "png8RGBA.png", "png16RGB.png", "palette.png",
    "tiff16RGB.tif", "tifffloatL.tif", "big.tif", "tiled.tif", "exif.tif", "lossy.webp",
    "exact.webp", "rgba.avif", "grey.avif",
}  # fmt: skip


@pytest.fixture
def samples(tmp_path) -> Path:
    """A folder with a file of every format."""
    folder = tmp_path / "samples"
    folder.mkdir()
    for case in CASES:
        if case.name in ONE_OF_EACH:
            case.make(folder / case.name)
    if importlib.util.find_spec("pillow_heif"):
        write_heic(folder / "iphone.heic", smooth(np.uint8, 3))
    (folder / "sensor.dng").write_bytes(bayer_dng(np.full((64, 96), 600, np.uint16)))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8))
    for name in ("windows.bmp", "netpbm.ppm", "frames.gif"):
        noise.save(folder / name)
    if importlib.util.find_spec("imagecodecs"):
        pixels = np.asarray(noise)
        for compression in ("packbits", "lzw", "zstd", "jpegxl"):
            tifffile.imwrite(folder / f"{compression}.tif", pixels, compression=compression)
        import imagecodecs

        contents = {
            "new.jxl": imagecodecs.jpegxl_encode(pixels, lossless=True),
            "wavelets.jp2": imagecodecs.jpeg2k_encode(pixels, codecformat="jp2"),
            "light.hdr": imagecodecs.rgbe_encode(pixels.astype(np.float32), header=True),
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    if importlib.util.find_spec("OpenEXR"):
        write_photo(with_depth(Photo(pixels=np.asarray(noise)), 32), folder / "linear.exr")
    return folder


def fuzz(folder: Path, seed: int, count: int, *options: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutated_files", str(folder), str(seed), str(count), *options],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    last = [p.name for p in (folder / "last").iterdir() if p.name != "number"]
    number = (folder / "last" / "number").read_text()
    assert done.returncode == 0, (done.returncode, last, number, done.stderr[-2000:])
    print(*done.stdout.splitlines()[:-1], sep="\n")
    return json.loads(done.stdout.splitlines()[-1])


def test_hundreds_of_mutated_files(samples):
    found = fuzz(samples, 0, 300)
    print(found)
    assert found["read"] > 30 and found["refused"] > 75


@pytest.mark.slow
def test_other_decoders_see_the_same_in_ten_thousand_mutated_files(tmp_path):
    """Prints the numbers of the files where they don't."""
    for package in ("imagecodecs", "pylibjxl", "cv2"):
        pytest.importorskip(package, reason="another decoder")
    save_one_of_each(tmp_path)
    totals: collections.Counter[str] = collections.Counter()
    for seed in range(0, 10_000, 2_500):
        totals += fuzz(tmp_path, seed, 2_500, "--compare")
    print(totals)
    assert totals["the other agrees"] > 1_500
    assert totals["the other differs"] == 0
    assert totals["the other refuses"] <= 10, "tags that tifffile stumbles over"


@pytest.mark.realdata
def test_thousands_of_mutated_files(samples):
    """Prints how many were read and refused."""
    raws = SHARED / "raw"
    if raws.is_dir():
        photo = next((SHARED / "polyu100" / "noisy").glob("*.jpg"))
        for path in (raws / "RAW_KODAK_DC50.KDC", raws / "canon_eos_6d.dng", photo):
            (samples / path.name).write_bytes(path.read_bytes())
    totals = {"read": 0, "refused": 0}
    for seed in range(10_000, 20_000, 1000):
        for outcome, count in fuzz(samples, seed, 1000).items():
            totals[outcome] += count
    print(totals)


class TestEveryFormat:
    @pytest.mark.parametrize("keep", [0, 1, 8, 40, 0.5, 0.97])
    def test_cut_short(self, samples, keep):
        for path in sorted(samples.iterdir()):
            content = path.read_bytes()
            length = keep if isinstance(keep, int) else int(len(content) * keep)
            path.write_bytes(content[:length])
            says = "empty" if keep == 0 else "not a picture|cut short|LibRaw cannot"
            with pytest.raises(PhotoError, match=says) as error:
                read_photo(path)
            assert path.name in str(error.value) and "\n" not in str(error.value)

    def test_random_bytes_behind_a_valid_beginning(self, samples):
        noise = np.random.default_rng(0).bytes(20_000)
        for path in sorted(samples.iterdir()):
            if path.suffix in (".bmp", ".ppm"):  # plain samples, which may be anything
                continue
            path.write_bytes(path.read_bytes()[:64] + noise)
            with pytest.raises(PhotoError, match=path.name):
                read_photo(path)

    def test_folders_pipes_and_devices(self, tmp_path):
        for suffix in (".png", ".dng", ".heic"):
            folder, pipe = tmp_path / f"folder{suffix}", tmp_path / f"pipe{suffix}"
            folder.mkdir()
            os.mkfifo(pipe)
            with pytest.raises(PhotoError, match="a folder"):
                read_photo(folder)
            with pytest.raises(PhotoError, match="not a regular file"):
                read_photo(pipe)
        with pytest.raises(PhotoError, match="not a regular file"):
            read_photo(Path("/dev/zero"))


class TestBombs:
    """Small files that claim to be, or become, enormous. None may take much memory."""

    @pytest.fixture(autouse=True)
    def little_memory(self):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        yield
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 300_000, f"{grown / 1000:.0f} MB"

    def test_png_that_expands_a_thousandfold(self, tmp_path):
        path, side = tmp_path / "bomb.png", 20_000
        pack = zlib.compressobj(9)
        data = b"".join(pack.compress(bytes(side + 1)) for _ in range(side)) + pack.flush()
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data)
            + png_chunk(b"IEND", b"")
        )  # fmt: skip
        with pytest.raises(PhotoError, match="this is no photo"):
            read_photo(path)

    @pytest.mark.parametrize("side", [65500, 2**31 - 1])
    def test_headers_of_absurd_size(self, tmp_path, side):
        png = tmp_path / "x.png"
        header = struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0)
        idat = png_chunk(b"IDAT", zlib.compress(bytes(1000)))
        png.write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + idat)
        jpeg = tmp_path / "x.jpg"
        Image.new("RGB", (8, 8)).save(jpeg, progressive=True)
        content = bytearray(jpeg.read_bytes())
        struct.pack_into(">HH", content, content.index(b"\xff\xc2") + 5, side & 65500, side & 65500)
        jpeg.write_bytes(content)
        tiff = tmp_path / "x.tif"
        Image.new("RGB", (8, 8)).save(tiff)
        content = bytearray(tiff.read_bytes())
        for tag in (256, 257):
            struct.pack_into(
                "<HII", content, content.index(struct.pack("<HH", tag, 4)) + 2, 4, 1, side
            )
        tiff.write_bytes(content)
        raw = tmp_path / "x.dng"
        raw.write_bytes(bayer_dng(np.zeros((8, 8), np.uint16), size=(60000, 60000)))
        for path in (png, jpeg, tiff, raw):
            with pytest.raises(PhotoError, match=path.name) as error:
                read_photo(path)
            if path == jpeg:  # Libjpeg would take six bytes for each pixel that its header claims.
                assert "claim to hold" in str(error.value)

    @pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
    def test_metadata_that_expands_a_thousandfold(self, tmp_path, kind):
        data = zlib.compress(bytes(100_000_000), 9)
        head = {
            b"iCCP": b"icc\0\0",
            b"zTXt": b"Raw profile type iptc\0\0",
            b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0",
        }[kind]
        Image.new("RGB", (8, 8)).save(path := tmp_path / "x.png")
        content = path.read_bytes()
        path.write_bytes(content[:33] + png_chunk(kind, head + data) + content[33:])
        try:
            photo = read_photo(path)
        except PhotoError:
            return
        assert len(photo.icc or b"") + len(photo.xmp or b"") + len(photo.iptc or b"") < 20_000_000

    @pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
    def test_huge_metadata_is_written_or_said_to_be_left_out(
        self, amsnet, tiny_model, tmp_path, suffix
    ):
        big = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + b" " * 1_000_000 + b"</x:xmpmeta>"
        Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
        content = (tmp_path / "x.png").read_bytes()
        xmp = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + big)
        exif = png_chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0\0\0\0\0" + bytes(100_000))
        (tmp_path / "x.png").write_bytes(content[:33] + xmp + exif + content[33:])
        target = tmp_path / f"y{suffix}"
        result = amsnet("denoise", tmp_path / "x.png", "-o", target, "-w", tiny_model)
        assert result.exit_code == 0, result.stderr
        if suffix == ".jpg":
            assert "XMP of" in result.stderr and "EXIF of" in result.stderr
        else:
            assert read_photo(target).xmp == big


def test_a_sparse_file_of_a_terabyte(tmp_path):
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(1 << 40)
    with pytest.raises(PhotoError, match="more than a photo has"):
        read_photo(path)


def test_a_file_that_changes_while_it_is_read(tmp_path):
    """What is read is whole, or refused; never half of the one and half of the other."""
    path = tmp_path / "x.tif"
    pictures = []
    for value in (10, 200):
        Image.new("RGB", (600, 400), (value,) * 3).save(tmp_path / "made.tif")
        pictures.append((tmp_path / "made.tif").read_bytes())
    path.write_bytes(pictures[0])
    done = threading.Event()

    def rewrite() -> None:
        turn = 0
        while not done.is_set():
            turn = 1 - turn
            with path.open("r+b") as file:
                half = len(pictures[turn]) // 2
                file.write(pictures[turn][:half])
                file.flush()
                file.write(pictures[turn][half:])

    writer = threading.Thread(target=rewrite)
    writer.start()
    refused = 0
    try:
        for _ in range(100):
            try:
                pixels = read_photo(path).pixels
            except PhotoError as error:
                assert "changes while it is read" in str(error)
                refused += 1
    finally:
        done.set()
        writer.join()
    assert refused > 0 or pixels is not None
