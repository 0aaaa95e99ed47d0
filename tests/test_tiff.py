"""TIFF files of every compression and layout, whole and damaged, against tifffile."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import ifd
from amsnet_cli.photos.ifd_entries import longs, shorts
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.stream import save_stream
from amsnet_cli.photos.write import not_kept, write_photo
from tests.test_raw import bayer_dng

OF_LIBTIFF = ("none", "packbits", "lzw", "deflate", "adobe_deflate", "jpeg")
OF_IMAGECODECS = ("zstd", "lzma", "lerc", "jpeg2000", "jpegxl", "png")
CHECKED = ("deflate", "adobe_deflate", "lzma", "png")
"""Compressions that hold a checksum, as these writers write them."""
LAYOUTS = {"strips": {"rowsperstrip": 32}, "tiles": {"tile": (32, 48)}}


def scene(height: int = 100, width: int = 130, dtype: type = np.uint8) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    noise = np.random.default_rng(0).normal(0, 0.02, (height, width, 3))
    unit = (np.stack([y, x, (x + y) / 2], 2) * 0.8 + 0.1 + noise).clip(0, 1)
    return unit.astype(dtype) if dtype == np.float32 else (unit * np.iinfo(dtype).max).astype(dtype)


def save(path: Path, pixels: np.ndarray, compression: str = "none", **options: object) -> Path:
    rgb = pixels.ndim == 3 and pixels.shape[-1] >= 3
    options = {"photometric": "rgb" if rgb else "minisblack", "metadata": None} | options
    name = None if compression == "none" else compression
    tifffile.imwrite(path, pixels, compression=name, **options)
    return path


class TestCompressions:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("compression", [*OF_LIBTIFF, *OF_IMAGECODECS])
    def test_pixels_are_those_of_another_reader(self, tmp_path, compression, layout):
        pytest.importorskip("imagecodecs", reason="the codecs extra is not installed")
        path = save(tmp_path / "x.tif", scene(), compression, **LAYOUTS[layout])
        difference = read_photo(path).pixels.astype(int) - tifffile.imread(path)
        assert np.abs(difference).max() <= (2 if compression == "jpeg" else 0)

    @pytest.mark.parametrize("compression", ["zstd", "jpegxl", "lerc"])
    def test_without_the_extra_it_is_named(self, tmp_path, monkeypatch, compression):
        pytest.importorskip("imagecodecs", reason="makes the file")
        path = save(tmp_path / "x.tif", scene(), compression)
        code = (
            "import sys; sys.modules['imagecodecs'] = None\n"
            "from pathlib import Path; from amsnet_cli.photos.read import read_photo\n"
            "read_photo(Path(sys.argv[1]))"
        )
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert 'pip install "amsnet[codecs]"' in done.stderr.splitlines()[-1]

    @pytest.mark.parametrize(("compression", "name"), [("jpegxr", "JPEG XR"), ("webp", "")])
    def test_others_are_refused_by_name_or_read(self, tmp_path, compression, name):
        pytest.importorskip("imagecodecs", reason="makes the file")
        path = save(tmp_path / "x.tif", scene(), compression)
        if not name:
            assert np.array_equal(read_photo(path).pixels, tifffile.imread(path))
            return
        with pytest.raises(PhotoError, match=f"x.tif: TIFF with {name}; save it with LZW"):
            read_photo(path)

    @pytest.mark.parametrize(
        ("compression", "layout"),
        [("none", "tile"), ("lzw", "strip"), ("deflate", "strip"), ("deflate", "tile")],
    )
    def test_large_single_strips_and_tiles(self, tmp_path, compression, layout):
        pytest.importorskip("imagecodecs", reason="makes the file")
        pixels = np.zeros((3200, 4000, 3), np.uint16)
        pixels[::7, ::5] = np.arange(800, dtype=np.uint16)[:, None] + 1
        options = {"tile": (3200, 4000)} if layout == "tile" else {"rowsperstrip": 3200}
        path = save(tmp_path / "x.tif", pixels, compression, **options)
        assert np.array_equal(read_photo(path).pixels, pixels)

    @pytest.mark.parametrize(
        "dtype", ["int8", "int16", "int32", "uint32", "float16", "float64", "uint64"]
    )
    @pytest.mark.parametrize("channels", [1, 3])
    def test_other_types_become_float_with_the_same_values(self, tmp_path, dtype, channels):
        pixels = (np.arange(48 * 64 * channels) % 100 - 20 * (dtype[0] == "i")).astype(dtype)
        pixels = pixels.reshape((48, 64, channels)[: 2 + (channels > 1)])
        photo = read_photo(save(tmp_path / "x.tif", pixels))
        assert photo.pixels.dtype == np.float32
        assert np.array_equal(photo.pixels.squeeze(), pixels)
        assert dtype == "float16" or "turned into float32" in photo.notes[0]

    @pytest.mark.parametrize("dtype", ["complex64", "complex128"])
    def test_complex_numbers_are_refused(self, tmp_path, dtype):
        with pytest.raises(PhotoError, match="complex numbers; save their amplitude"):
            read_photo(save(tmp_path / "x.tif", np.full((48, 64), 1 + 2j, dtype)))

    @pytest.mark.parametrize("photometric", [0, 1])
    @pytest.mark.parametrize("bits", [1, 3, 4, 5, 7])
    @pytest.mark.parametrize("samples", [1, 3])
    def test_few_bits_fill_the_range_of_8(self, tmp_path, samples, bits, photometric):
        pytest.importorskip("imagecodecs", reason="the codecs extra")
        values = scene(20, 24)[..., :samples] >> (8 - bits)
        digits = np.unpackbits(values[..., None], axis=3)[..., 8 - bits :]
        rows = np.packbits(digits.reshape(20, -1), axis=1)
        tags = (
            (256, shorts(24)), (257, shorts(20)), (258, shorts(*[bits] * samples)),
            (259, shorts(1)), (262, shorts(photometric if samples == 1 else 2)),
            (273, longs(8)), (277, shorts(samples)), (278, shorts(20)), (279, longs(rows.size)),
        )  # fmt: skip
        content = ifd.append_tree(b"II*\0\0\0\0\0" + rows.tobytes(), dict(tags))
        (tmp_path / "x.tif").write_bytes(content)
        expected = np.rint(values * (255 / ((1 << bits) - 1)))
        if samples == 1 and photometric == 0:
            expected = 255 - expected
        read = read_photo(tmp_path / "x.tif").pixels
        assert read.dtype == np.uint8 and np.array_equal(read, expected)

    def test_jpeg_of_12_bits(self, tmp_path):
        pytest.importorskip("imagecodecs", reason="the codecs extra")
        pixels = scene(dtype=np.uint16)[..., 0] >> 4
        path = save(tmp_path / "x.tif", pixels, "jpeg", bitspersample=12)
        with tifffile.TiffFile(path) as file:
            expected = file.asarray().astype(float) * (65535 / 4095)
        assert np.array_equal(read_photo(path).pixels[..., 0], np.rint(expected))

    @pytest.mark.parametrize("bits", [10, 12, 14])
    def test_packed_bits_fill_the_range_of_16(self, tmp_path, bits):
        pytest.importorskip("imagecodecs", reason="makes the file")
        pixels = scene(dtype=np.uint16)[..., 0] >> (16 - bits)
        try:
            path = save(tmp_path / "x.tif", pixels, bitspersample=bits)
        except NotImplementedError:
            pytest.skip("this imagecodecs packs no bits")
        expected = pixels * (65535 / ((1 << bits) - 1))
        assert np.abs(read_photo(path).pixels[..., 0] - expected).max() < 1

    def test_planes_in_tiles(self, tmp_path):
        pixels = scene()
        planes = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
        path = tmp_path / "x.tif"
        tifffile.imwrite(
            path, planes, photometric="rgb", planarconfig="separate", tile=(32, 32), metadata=None
        )
        assert np.array_equal(read_photo(path).pixels, pixels)


class TestDamage:
    def damaged(self, path: Path, seed: int, count: int) -> bytes:
        """Change `count` bytes of one strip or tile."""
        rng = np.random.default_rng(seed)
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            part = int(rng.integers(len(page.dataoffsets)))
            start, length = page.dataoffsets[part], page.databytecounts[part]
        content = bytearray(path.read_bytes())
        at = start + int(rng.integers(max(1, length - count)))
        content[at : at + count] = rng.bytes(min(count, length))
        return bytes(content)

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("compression", [*OF_LIBTIFF[1:], *OF_IMAGECODECS])
    def test_nothing_is_read_that_another_decoder_refuses(self, tmp_path, compression, layout):
        """Where a compression has no checksum, both readers may give the same wrong pixels."""
        imagecodecs = pytest.importorskip("imagecodecs", reason="the other decoder")
        assert imagecodecs
        path = save(tmp_path / "x.tif", scene(), compression, **LAYOUTS[layout])
        whole, refused = read_photo(path).pixels, 0
        for seed in range(20):
            path.write_bytes(
                self.damaged(save(path, scene(), compression, **LAYOUTS[layout]), seed, 40)
            )
            try:
                pixels = read_photo(path).pixels
            except PhotoError as error:
                assert "x.tif" in str(error) and "\n" not in str(error)
                refused += 1
                continue
            if compression in CHECKED:
                assert np.array_equal(pixels, whole), "a checksum tells"
            elif compression != "jpeg":
                assert np.array_equal(pixels, tifffile.imread(path))
        if compression != "zstd":  # its writer leaves noise as it is, without a checksum
            assert refused >= (20 if compression in ("deflate", "adobe_deflate") else 1)

    def test_webp_longer_than_its_strip_is_refused(self, tmp_path):
        pytest.importorskip("imagecodecs", reason="makes the file")
        content = save(tmp_path / "x.tif", scene(), "webp").read_bytes()
        at = content.index(b"RIFF") + 5
        (tmp_path / "x.tif").write_bytes(content[:at] + b"\x80" + content[at + 1 :])
        with pytest.raises(PhotoError, match=r"x\.tif: damaged"):
            read_photo(tmp_path / "x.tif")

    @pytest.mark.parametrize("compression", ["none", "packbits", "deflate"])
    def test_a_missing_strip_is_refused(self, tmp_path, compression):
        if compression == "packbits":
            pytest.importorskip("imagecodecs", reason="makes the file")
        path = save(tmp_path / "x.tif", scene(), compression, rowsperstrip=32)
        with tifffile.TiffFile(path, mode="r+b") as file:
            tag = file.pages.first.tags[279]
            tag.overwrite((*tag.value[:2], 0, *tag.value[3:]))
        with pytest.raises(PhotoError, match="damaged"):
            read_photo(path)

    def test_a_deflated_strip_without_its_checksum_is_whole(self, tmp_path):
        pixels = scene()
        path = save(tmp_path / "x.tif", pixels, "deflate", rowsperstrip=100)
        with tifffile.TiffFile(path, mode="r+b") as file:
            tag = file.pages.first.tags[279]
            tag.overwrite(tag.value[0] - 4)
        assert np.array_equal(read_photo(path).pixels, pixels)

    def test_a_deflated_strip_that_goes_on_is_damaged(self, tmp_path):
        """Bytes put into a strip push its end out of it, while its pixels may all be there."""
        path = save(tmp_path / "x.tif", scene(), "deflate", rowsperstrip=100)
        packer = zlib.compressobj(0)
        strip = packer.compress(scene()[::-1].tobytes()) + packer.flush(zlib.Z_SYNC_FLUSH)
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages.first.tags[273].overwrite(path.stat().st_size)
            file.pages.first.tags[279].overwrite(len(strip))
        path.write_bytes(path.read_bytes() + strip)
        with pytest.raises(PhotoError, match="damaged"):
            read_photo(path)

    @pytest.mark.parametrize("compression", ["deflate", "zstd"])
    def test_a_width_that_is_there_twice_counts_once(self, tmp_path, compression):
        """As in libtiff and tifffile, the first counts."""
        pixels = scene()
        tags = [(340, 4, 1, 1, True)]
        path = save(tmp_path / "x.tif", pixels, compression, extratags=tags)
        with tifffile.TiffFile(path) as file:
            place = file.pages.first.tags[340].offset
        content = bytearray(path.read_bytes())
        content[place : place + 2] = (256).to_bytes(2, "little")
        path.write_bytes(content)
        assert np.array_equal(read_photo(path).pixels, pixels)

    def test_unknown_tags_and_broken_text_are_no_damage(self, tmp_path):
        tags = [
            (65000, 7, 4, b"\1\2\3\4", True),
            (305, 1, 3, b"abc", True),
            (306, 2, 3, "bad", True),
        ]
        pixels = scene()
        path = save(tmp_path / "x.tif", pixels, "deflate", extratags=tags)
        assert np.array_equal(read_photo(path).pixels, pixels)


def test_stated_primaries_stay(tmp_path):
    numbers = {318: (1, 2, 1, 3), 319: (3, 5, 1, 3, 1, 5, 7, 10, 1, 7, 1, 20)}
    tags = [(tag, 5, len(values) // 2, values, True) for tag, values in numbers.items()]
    write_photo(read_photo(save(tmp_path / "x.tif", scene(), extratags=tags)), tmp_path / "y.tif")
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        kept = file.pages.first.tags
        assert {tag: kept[tag].value for tag in numbers} == numbers


def test_lab_is_refused_by_name(tmp_path):
    Image.fromarray(scene()).convert("LAB").save(tmp_path / "x.tif")
    with pytest.raises(PhotoError, match="x.tif: LAB colours; convert it to RGB first"):
        read_photo(tmp_path / "x.tif")


class TestPages:
    def test_the_picture_behind_its_thumbnail_is_read(self, tmp_path):
        pixels, small = scene(), scene(20, 26)
        path = tmp_path / "x.tif"
        with tifffile.TiffWriter(path) as file:
            file.write(small, subfiletype=1, subifds=1, photometric="rgb", metadata=None)
            file.write(pixels, photometric="rgb", metadata=None)
        photo = read_photo(path)
        assert np.array_equal(photo.pixels, pixels)
        assert "thumbnails" in photo.notes[0]

    @pytest.mark.parametrize("bigtiff", [False, True])
    def test_reduced_copies_are_left_out(self, tmp_path, bigtiff):
        pixels = scene()
        path = tmp_path / "x.tif"
        with tifffile.TiffWriter(path, bigtiff=bigtiff) as file:
            file.write(pixels, photometric="rgb", metadata=None)
            for step in (2, 4):
                file.write(pixels[::step, ::step], subfiletype=1, photometric="rgb", metadata=None)
        assert np.array_equal(read_photo(path).pixels, pixels)

    def test_layers_and_clipping_paths_are_said(self, tmp_path):
        resource = b"8BIM" + (2000).to_bytes(2, "big") + b"\0\0\0\0\0\2xy"
        layers = b"Adobe Photoshop Document Data Block\0"
        tags = [(37724, 7, len(layers), layers, True), (34377, 1, len(resource), resource, True)]
        photo = read_photo(save(tmp_path / "x.tif", scene(), extratags=tags))
        assert photo.notes == ("Photoshop's layers are left out", "clipping paths are left out")
        assert layers not in (photo.exif or b"")

    def test_two_pictures_are_refused(self, tmp_path):
        path = tmp_path / "x.tif"
        with tifffile.TiffWriter(path) as file:
            for _ in range(2):
                file.write(scene(), photometric="rgb", metadata=None)
        with pytest.raises(PhotoError, match="2 pages"):
            read_photo(path)


class TestChannels:
    @pytest.mark.parametrize(
        ("samples", "kind", "number"),
        [("unspecified", "unspecified", 0), ("assocalpha", "associated", 1),
         ("unassalpha", "transparency", 2)],
    )  # fmt: skip
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_a_fourth_channel_stays_what_it_was(self, tmp_path, samples, kind, number, dtype):
        pixels = np.dstack([scene(dtype=dtype), scene(dtype=dtype)[..., 0]])
        path = save(tmp_path / "x.tif", pixels, extrasamples=[samples])
        photo = read_photo(path)
        assert photo.fourth_channel == kind
        write_photo(photo, tmp_path / "y.tif")
        with tifffile.TiffFile(tmp_path / "y.tif") as file:
            assert tuple(file.pages.first.extrasamples) == (number,)
            assert np.array_equal(file.asarray(), pixels)

    def test_it_becomes_no_transparency(self, tmp_path):
        pixels = np.dstack([scene(), np.zeros((100, 130), np.uint8)])
        photo = read_photo(save(tmp_path / "x.tif", pixels, extrasamples=["unspecified"]))
        for suffix in (".png", ".jpg"):
            path = tmp_path / f"y{suffix}"
            assert "fourth channel" in not_kept(photo, path)[0]
            write_photo(photo, path)
            assert read_photo(path).alpha is None

    def test_associated_transparency_is_divided_out(self, tmp_path):
        cover = np.full((100, 130), 128, np.uint8)
        straight = scene()
        pixels = np.dstack([np.rint(straight * (128 / 255)).astype(np.uint8), cover])
        photo = read_photo(save(tmp_path / "x.tif", pixels, extrasamples=["assocalpha"]))
        write_photo(photo, tmp_path / "y.png")
        after = read_photo(tmp_path / "y.png")
        assert np.abs(after.pixels.astype(int) - straight).max() <= 2
        assert np.array_equal(after.alpha, cover)

    @pytest.mark.parametrize("compression", ["none", "zstd"])
    def test_white_is_zero_in_signed_integers(self, tmp_path, compression):
        """The smallest number is white, so that the order turns round."""
        grey = scene()[..., 0].astype(np.int16) - 100
        path = save(tmp_path / "x.tif", grey, compression, photometric="miniswhite")
        assert np.array_equal(read_photo(path).pixels[..., 0], -1.0 - grey)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_white_is_zero(self, tmp_path, dtype):
        grey = scene(dtype=dtype)[..., 0]
        largest = 1 if dtype == np.float32 else np.iinfo(dtype).max
        path = save(tmp_path / "x.tif", largest - grey, photometric="miniswhite")
        assert np.allclose(read_photo(path).pixels[..., 0], grey, atol=1e-6)


class TestRawEvidence:
    @pytest.mark.parametrize(
        "tags",
        [
            [],
            [(271, 2, 0, "Canon", True), (272, 2, 0, "X", True)],
            [(50706, 1, 4, b"\1\4\0\0", True), (33421, 3, 2, (2, 2), True)],
        ],
    )
    def test_a_grey_tiff_of_16_bits_is_no_raw(self, tmp_path, tags):
        pixels = scene(dtype=np.uint16)[..., 0]
        content = save(tmp_path / "x.tif", pixels, extratags=tags).read_bytes()
        saved = save_stream(io.BytesIO(content), tmp_path)
        assert saved.name == "stdin.tif"
        assert np.array_equal(read_photo(saved).pixels[..., 0], pixels)

    def test_a_mosaic_is_whatever_its_name(self, tmp_path):
        content = bayer_dng(np.full((64, 96), 600, np.uint16))
        assert save_stream(io.BytesIO(content), tmp_path).name == "stdin.dng"
        (tmp_path / "x.tif").write_bytes(content)
        assert read_photo(tmp_path / "x.tif").pixels.shape == (64, 96, 3)


class TestPrivateTags:
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_imagej_s_metadata_is_read_by_others_afterwards(self, tmp_path, order):
        ranges = [0.5, 4095.25]
        nested = [ranges] if sys.version_info < (3, 11) else ranges  # as the last tifffile for 3.10
        metadata = {"Info": "stage: 3 µm", "Labels": ["one"], "Ranges": nested}
        extra = tifffile.tifffile.imagej_metadata_tag(metadata, order)
        pixels = scene(dtype=np.uint16)[..., 0]
        path = save(tmp_path / "x.tif", pixels, byteorder=order, extratags=extra)
        write_photo(read_photo(path), tmp_path / "y.tif")
        with tifffile.TiffFile(tmp_path / "y.tif") as file:
            found = file.pages.first.tags[50839].value
            assert file.byteorder == "<" and np.array_equal(file.asarray(), pixels)
        assert found["Info"] == "stage: 3 µm" and found["Labels"] == "one"
        assert tuple(np.ravel(found["Ranges"])) == (0.5, 4095.25)

    def test_bytes_of_unknown_order_are_left_out_and_said(self, tmp_path):
        tags = [(65000, 7, 4, b"\1\2\3\4", True), (65001, 7, 4, b"text", True),
                (65002, 3, 2, (258, 3), True)]  # fmt: skip
        for order, kept in ((">", {65001, 65002}), ("<", {65000, 65001, 65002})):
            path = save(tmp_path / "x.tif", scene(), byteorder=order, extratags=tags)
            photo = read_photo(path)
            lost = not_kept(photo, tmp_path / "y.tif")
            assert ("65000" in "".join(lost)) == (order == ">")
            write_photo(photo, tmp_path / "y.tif")
            with tifffile.TiffFile(tmp_path / "y.tif") as file:
                found = {t.code: t.value for t in file.pages.first.tags if t.code >= 65000}
            assert set(found) == kept
            assert found[65002] == (258, 3) and bytes(found[65001]) == b"text"
