from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from amsnet_cli.errors import OutputError, PhotoError
from amsnet_cli.photos.colour import srgb_profile
from amsnet_cli.photos.exif import with_orientation
from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.ifd import byte_order, read_tree, reordered
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec, with_depth
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import check_output, not_kept, write_photo

XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b"</x:xmpmeta><?xpacket end='w'?>"
)
MAKER_NOTE = b"Canon\0" + bytes(range(256)) * 4
DTYPES = [np.uint8, np.uint16, np.float32]


def exif_block(orientation: int = 6) -> bytes:
    exif = Image.Exif()
    exif[271], exif[272], exif[274] = "Canon", "EOS 6D", orientation
    camera = exif.get_ifd(0x8769)
    camera[37500], camera[34855], camera[33434] = MAKER_NOTE, 1600, 0.01
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 8.0, 30.0)
    return exif.tobytes().removeprefix(b"Exif\0\0")


def same_exif(one: bytes, other: bytes, *, bytewise: bool = False) -> bool:
    """Tell whether two blocks say the same; a TIFF's has its own order of bytes and values."""
    if bytewise:
        return one == other
    a, b = (reordered(read_tree(block), byte_order(block), "<") for block in (one, other))
    return a == b


def photo(dtype: type, channels: int = 3, *, alpha: bool = False, **rest) -> Photo:
    rng = np.random.default_rng(0)
    values = rng.random((20, 31, channels + 1))
    beyond_unit_range = values * 3 - 1
    whole_range = values * (1 if dtype == np.float32 else np.iinfo(dtype).max)
    values = (beyond_unit_range if dtype == np.float32 else whole_range).astype(dtype)
    return Photo(
        pixels=np.ascontiguousarray(values[..., :-1]),
        alpha=np.ascontiguousarray(values[..., -1]) if alpha else None,
        **rest,
    )


KEPT = """
import sys
from pathlib import Path
import psutil, torch
from amsnet_cli.inference.memory import release_memory
from amsnet_cli.photos.read import read_photo
first, *others = sorted(Path(sys.argv[1]).glob("*.jpg"))
read_photo(first)  # libvips sets itself up with the first
release_memory(torch.device("cpu"))
before = psutil.Process().memory_info().rss
kept = [read_photo(path).pixels for path in others]
release_memory(torch.device("cpu"))
print(psutil.Process().memory_info().rss - before)
"""
"""Prints by how many bytes a process grows that keeps the pixels of photos."""


class TestRoundTrip:
    @pytest.mark.parametrize("alpha", [False, True])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize(
        ("suffix", "dtype"),
        [(".png", np.uint8), (".png", np.uint16)] + [(".tif", d) for d in DTYPES],
    )
    def test_png_and_tiff_keep_everything(self, tmp_path, suffix, dtype, channels, alpha):
        before = photo(
            dtype, channels, alpha=alpha, icc=srgb_profile() if channels == 3 else None,
            exif=exif_block(), xmp=XMP, orientation=6, dpi=(300.0, 300.0),
        )  # fmt: skip
        path = tmp_path / f"x{suffix}"
        write_photo(before, path)
        after = read_photo(path)
        assert after.pixels.dtype == dtype
        assert np.array_equal(after.pixels, before.pixels)
        assert (after.alpha is None) == (before.alpha is None)
        assert before.alpha is None or np.array_equal(after.alpha, before.alpha)
        assert after.icc == before.icc
        assert after.xmp == XMP
        assert after.orientation == 6
        assert same_exif(after.exif, before.exif, bytewise=suffix == ".png")
        assert after.dpi == pytest.approx((300, 300), abs=0.01)

    @pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
    def test_lossy_formats_keep_all_but_pixels(self, tmp_path, suffix):
        smooth = np.linspace(0, 255, 64 * 48 * 3).reshape(64, 48, 3).astype(np.uint8)
        before = Photo(pixels=smooth, icc=srgb_profile(), exif=exif_block(), xmp=XMP, orientation=6)
        path = tmp_path / f"x{suffix}"
        write_photo(before, path)
        after = read_photo(path)
        pixels = after.pixels
        if suffix == ".avif":  # AVIF decoders turn the picture upright themselves.
            assert after.orientation == 1
            pixels = np.rot90(pixels)
            exif = Image.Exif()
            exif.load(after.exif)
            assert exif.get(274, 1) == 1 and exif.get_ifd(0x8769)[37500] == MAKER_NOTE
        else:
            assert after.orientation == 6
            assert after.exif == before.exif
        assert np.abs(pixels.astype(int) - smooth).mean() < 2
        assert after.icc == before.icc
        assert after.xmp == XMP

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
    def test_exif_is_there_for_other_programs(self, tmp_path, suffix):
        path = tmp_path / f"x{suffix}"
        write_photo(photo(np.uint8, exif=exif_block(), orientation=6), path)
        with Image.open(path) as image:
            exif = image.getexif()
            assert exif[272] == "EOS 6D"
            assert exif[274] == 6
            assert exif.get_ifd(0x8769)[37500] == MAKER_NOTE
            assert exif.get_ifd(0x8825)[2] == (48.0, 8.0, 30.0)

    def test_jpeg_to_tiff_and_back_keeps_camera_and_orientation(self, tmp_path):
        jpeg, tiff = tmp_path / "a.jpg", tmp_path / "b.tif"
        write_photo(photo(np.uint8, exif=exif_block(), orientation=6), jpeg)
        write_photo(read_photo(jpeg), tiff)
        after = read_photo(tiff)
        assert same_exif(after.exif, exif_block())
        assert after.orientation == 6

    @pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux has it")
    def test_of_photos_that_were_read_only_their_pixels_stay_in_memory(self, tmp_path):
        for i in range(5):
            pixels = np.random.default_rng(i).integers(0, 255, (2000, 2000, 3), np.uint8)
            write_photo(Photo(pixels=pixels), tmp_path / f"{i}.jpg")
        done = subprocess.run(
            [sys.executable, "-c", KEPT, str(tmp_path)], capture_output=True, text=True, check=True
        )
        # Coefficients and contents of the files would be 120 MB more.
        assert int(done.stdout) < 4 * pixels.nbytes + 60_000_000

    def test_a_resolution_that_jpeg_cannot_hold_is_said(self, tmp_path):
        path = tmp_path / "x.jpg"
        for dots, held in ((65535.0, True), (254000.0, False)):
            microscopic = photo(np.uint8, dpi=(dots, dots))
            write_photo(microscopic, path)
            assert read_photo(path).dpi == ((dots, dots) if held else None)
            assert any("dots an inch" in line for line in not_kept(microscopic, path)) is not held

    def test_palette_pictures_become_rgb(self, tmp_path):
        path = tmp_path / "palette.png"
        image = Image.fromarray(photo(np.uint8).pixels).quantize(16)
        image.save(path)
        assert np.array_equal(read_photo(path).pixels, np.asarray(image.convert("RGB")))

    @given(st.integers(1, 8))
    def test_orientation_is_set_in_place(self, orientation):
        assert with_orientation(exif_block(3), orientation) == exif_block(orientation)

    def test_orientation_alone_gets_a_block(self):
        assert with_orientation(None, 1) is None
        block = Image.Exif()
        block.load(with_orientation(None, 8))
        assert dict(block) == {274: 8}


class TestPixelCodec:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_there_and_back_is_exact_for_integers(self, dtype):
        before = photo(dtype)
        codec = PixelCodec.of(before)
        unit = codec.decode(before.pixels)
        assert unit.min() >= 0 and unit.max() <= 1
        after = codec.encode(unit)
        if dtype == np.float32:
            assert np.allclose(after, before.pixels, atol=1e-6)
        else:
            assert np.array_equal(after, before.pixels)

    def test_depths_convert_by_rounding(self):
        assert np.array_equal(
            with_depth(Photo(pixels=np.array([[[0], [128], [129], [65535]]], np.uint16)), 8).pixels,
            np.array([[[0], [0], [1], [255]]], np.uint8),
        )
        eight = photo(np.uint8, alpha=True)
        back = with_depth(with_depth(eight, 16), 8)
        assert np.array_equal(back.pixels, eight.pixels)
        assert np.array_equal(back.alpha, eight.alpha)


def good_jpeg(path: Path) -> bytes:
    rng = np.random.default_rng(0)
    write_photo(Photo(pixels=rng.integers(0, 255, (200, 200, 3), np.uint8)), path)
    return path.read_bytes()


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("empty.jpg", b"", "empty"),
            ("text.png", b"hello, I am a text file\n" * 20, "not a picture"),
            ("noise.tif", bytes(range(256)) * 10, "not a picture"),
            ("noise.dng", bytes(range(256)) * 10, "LibRaw cannot"),
            ("half.png", b"\x89PNG\r\n\x1a\n", "not a picture"),
        ],
    )
    def test_what_is_no_picture_says_so(self, tmp_path, name, content, says):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(PhotoError, match=says) as error:
            read_photo(path)
        assert name in str(error.value)

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
    @pytest.mark.parametrize("keep", [0.2, 0.5, 0.95])
    def test_truncated_files_are_refused(self, tmp_path, suffix, keep):
        path = tmp_path / f"cut{suffix}"
        rng = np.random.default_rng(0)
        write_photo(Photo(pixels=rng.integers(0, 255, (200, 200, 3), np.uint8)), path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * keep)])
        with pytest.raises(PhotoError, match="cut short|not a picture"):
            read_photo(path)

    def test_missing_folder_and_fifo(self, tmp_path):
        with pytest.raises(PhotoError, match="no such file"):
            read_photo(tmp_path / "missing.png")
        folder = tmp_path / "folder.png"
        folder.mkdir()
        with pytest.raises(PhotoError, match="a folder"):
            read_photo(folder)
        pipe = tmp_path / "pipe.png"
        os.mkfifo(pipe)
        with pytest.raises(PhotoError, match="not a regular file"):
            read_photo(pipe)

    def test_cmyk_and_several_pages(self, tmp_path):
        cmyk = tmp_path / "cmyk.jpg"
        Image.new("CMYK", (8, 8)).save(cmyk)
        with pytest.raises(PhotoError, match="CMYK"):
            read_photo(cmyk)
        pages = tmp_path / "pages.tif"
        frames = [Image.new("RGB", (8, 8)) for _ in range(2)]
        frames[0].save(pages, save_all=True, append_images=frames[1:])
        with pytest.raises(PhotoError, match="2 pages"):
            read_photo(pages)

    def test_nan_pixels_are_read_as_they_are(self, tmp_path):
        path = tmp_path / "nan.tif"
        write_photo(Photo(pixels=np.full((4, 4, 3), np.nan, np.float32)), path)
        assert np.isnan(read_photo(path).pixels).all()

    def test_brackets_in_names_are_no_options(self, tmp_path):
        path = tmp_path / "IMG[1,shrink=4].png"
        write_photo(photo(np.uint8), path)
        assert read_photo(path).pixels.shape == (20, 31, 3)


class TestWriting:
    @pytest.mark.parametrize(
        ("suffix", "dtype"), [(".jpg", np.uint16), (".webp", np.uint16), (".png", np.float32)]
    )
    def test_depth_is_never_lost_silently(self, tmp_path, suffix, dtype):
        with pytest.raises(OutputError, match="cannot hold .* TIFF"):
            write_photo(photo(dtype), tmp_path / f"x{suffix}")
        assert not list(tmp_path.iterdir())

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF")
    def test_damaged_exif_is_kept_as_it_is_or_said_to_be_left_out(self, tmp_path):
        damaged = photo(np.uint8, exif=b"II*\0\xff\xff\0\0 no directory there")
        write_photo(damaged, tmp_path / "x.jpg")
        assert read_photo(tmp_path / "x.jpg").exif == damaged.exif
        nonsense = photo(np.uint8, exif=b"nonsense" * 9)
        for suffix in (".tif", ".avif"):
            path = tmp_path / f"x{suffix}"
            assert "EXIF is damaged" in not_kept(nonsense, path)[0]
            write_photo(nonsense, path)
            assert read_photo(path).exif is None

    def test_transparency_is_never_lost_silently(self, tmp_path):
        with pytest.raises(OutputError, match="transparency"):
            write_photo(photo(np.uint8, alpha=True), tmp_path / "x.jpg")

    def test_a_failed_write_leaves_the_old_file_and_nothing_else(self, tmp_path):
        old = tmp_path / "x.png"
        old.mkdir()  # cannot be replaced by a file, even by root
        (old / "keep").touch()
        with pytest.raises(OutputError, match="cannot be written"):
            write_photo(photo(np.uint8), old)
        assert [p.name for p in tmp_path.iterdir()] == ["x.png"]

    def test_outputs_are_checked_before_any_work(self, tmp_path):
        there = tmp_path / "there.png"
        there.touch()
        with pytest.raises(OutputError, match="exists already; overwrite it with --force"):
            check_output(there, force=False)
        check_output(there, force=True)
        with pytest.raises(OutputError, match="no such folder"):
            check_output(tmp_path / "missing" / "x.png", force=False)
        with pytest.raises(OutputError, match="cannot write .gif"):
            check_output(tmp_path / "x.gif", force=False)


class TestFinding:
    def test_recursive_sorted_and_without_the_rest(self, tmp_path):
        for name in ("b/2.JPG", "b/10.jpg", "a.png", "c.txt", ".hidden.png", ".git/x.png", "d.NEF"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        found = [p.relative_to(tmp_path).as_posix() for p in find_photos(tmp_path)]
        assert found == ["a.png", "b/10.jpg", "b/2.JPG", "d.NEF"]

    def test_other_names_of_known_formats(self, tmp_path):
        names = ("a.jfif", "b.jpe", "c.JPG", "d.mpo")
        for name in names:
            good_jpeg(tmp_path / "x.jpg")
            (tmp_path / "x.jpg").rename(tmp_path / name)
        assert [p.name for p in find_photos(tmp_path)] == list(names)
        for name in names:
            assert read_photo(tmp_path / name).pixels.shape == (200, 200, 3)

    def test_files_passed_over_are_counted_by_suffix(self, amsnet, tiny_model, tmp_path):
        folder = tmp_path / "in"
        folder.mkdir()
        for name in ("a.svg", "b.SVG", "c.txt", "LICENSE", ".hidden.svg"):
            (folder / name).touch()
        good_jpeg(folder / "x.jpg")
        call = ["denoise", folder, "-o", tmp_path / "out", "-w", tiny_model]
        result = amsnet(*call)
        assert result.exit_code == 0
        assert "4 files passed over: 2 .svg, 1 " in result.stderr and "1 .txt" in result.stderr
        objects = [
            json.loads(line) for line in amsnet(*call, "--force", "--json").stdout.split("\n")[:-1]
        ]
        status = {Path(item["input"]).name: item["status"] for item in objects}
        assert status == {"x.jpg": "done"} | dict.fromkeys(
            ("a.svg", "b.SVG", "c.txt", "LICENSE"), "passed_over"
        )

    def test_nothing_found_says_what_was_expected(self, tmp_path):
        with pytest.raises(PhotoError, match="no photos .* expected JPEG"):
            find_photos(tmp_path)
        with pytest.raises(PhotoError, match="no such folder"):
            find_photos(tmp_path / "missing")


def test_profile_is_srgb():
    import io

    profile = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
    assert "sRGB" in ImageCms.getProfileDescription(profile)
    first = srgb_profile()
    time.sleep(1.1)
    assert srgb_profile() == first, "no time of making"
