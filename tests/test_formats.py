"""Formats beside the camera's: each against a second reader or writer, whole and damaged."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from amsnet_cli.errors import OutputError, PhotoError
from amsnet_cli.photos.colour_model import colour_model_of
from amsnet_cli.photos.formats import FORMATS, heif, pnm
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import not_kept, write_photo
from tests.test_photos import photo
from tests.test_round_trip import PROFILES, smooth


class TestPnm:
    @pytest.mark.parametrize("alpha", [False, True])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_pixels_come_back(self, tmp_path, dtype, channels, alpha):
        before = photo(dtype, channels, alpha=alpha)
        path = tmp_path / "x.pnm"
        if alpha and dtype == np.float32:
            with pytest.raises(OutputError, match=r"x\.pnm"):
                write_photo(before, path)
            return
        write_photo(before, path)
        after = read_photo(path)
        assert after.pixels.dtype == dtype and np.array_equal(after.pixels, before.pixels)
        assert (after.alpha is None) == (not alpha)
        assert not alpha or np.array_equal(after.alpha, before.alpha)

    @pytest.mark.parametrize("mode", ["L", "RGB", "1"])
    def test_files_of_pillow(self, tmp_path, mode):
        image = Image.fromarray(smooth(np.uint8, 3)).convert(mode)
        image.save(tmp_path / "x.ppm")
        expected = np.asarray(image.convert("L" if mode == "1" else mode))
        assert np.array_equal(read_photo(tmp_path / "x.ppm").pixels.squeeze(), expected)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_pillow_reads_ours(self, tmp_path, dtype, channels):
        before = photo(dtype, channels)
        write_photo(before, tmp_path / "x.ppm")
        if dtype == np.uint8 or channels == 1:  # Pillow has no 16-bit colours.
            with Image.open(tmp_path / "x.ppm") as image:
                assert np.array_equal(np.asarray(image), before.pixels.squeeze())

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"P1\n# a comment\n3 2\n0 1 0\n111\n", [[255, 0, 255], [0, 0, 0]]),
            (b"P4\n3 2\n\x40\xe0", [[255, 0, 255], [0, 0, 0]]),
            (b"P2 3 2 15 0 5 15\n15 10 0 ", [[0, 85, 255], [255, 170, 0]]),
            (b"P2\n2 1\n1000\n0 1000\n", [[0, 65535]]),
            (b"P5\n2 1\n# why not\n100\n\x00\x64", [[0, 255]]),
            (b"P5 2 1 4095\n\x00\x00\x0f\xff", [[0, 65535]]),
            (b"P3\n1 1\n255\n1 2 3", [[[1, 2, 3]]]),
            (b"Pf\n2 1\n1.0\n\x3f\x80\0\0\xbf\0\0\0", [[1.0, -0.5]]),
            (b"Pf\n# by libvips\n1 1\n1.0\n\x3f\x80\0\0", [[1.0]]),
            (b"Pf\n1 2\n-1\n\0\0\x80\x3f\0\0\0\x3f", [[0.5], [1.0]]),
        ],
    )
    def test_each_kind_by_hand(self, tmp_path, content, expected):
        (tmp_path / "x.pnm").write_bytes(content)
        assert (
            read_photo(tmp_path / "x.pnm")
            .pixels.squeeze(2 if np.ndim(expected) == 2 else ())
            .tolist()
            == expected
        )

    @pytest.mark.parametrize(
        "content",
        [
            b"P6\n2 2\n255\n" + bytes(11), b"P6\n0 2\n255\n", b"P5 2 1 10\n\x0b\x01",
            b"P2 2 1 255 7", b"P2 2 1 255 7 x", b"P7\nWIDTH 2\nENDHDR\n", b"P5 2 1 70000\n\0\0\0\0",
            b"P6\n99999 99999\n255\n" + bytes(100), b"P5\n", b"P4\n16 2\n\0\0\0",
        ],
    )  # fmt: skip
    def test_damage_is_refused(self, tmp_path, content):
        (tmp_path / "x.ppm").write_bytes(content)
        with pytest.raises(PhotoError, match=r"x\.ppm"):
            read_photo(tmp_path / "x.ppm")

    def test_further_pictures_and_scales_are_said(self, tmp_path):
        one = b"P6\n1 1\n255\nabc"
        (tmp_path / "x.ppm").write_bytes(one + one)
        photo = read_photo(tmp_path / "x.ppm")
        assert photo.notes == ("only the first of several pictures is kept",)
        assert photo.pixels.tobytes() == b"abc"
        (tmp_path / "x.ppm").write_bytes(one + b"\n")
        assert read_photo(tmp_path / "x.ppm").notes == ()
        (tmp_path / "x.pfm").write_bytes(b"Pf 1 1 -2.5\n\0\0\x80\x3f")
        assert read_photo(tmp_path / "x.pfm").notes == ("the scale 2.5 of its values is left out",)

    @pytest.mark.parametrize(
        ("kind", "depth"), [("CMYK", 4), ("CMYK_ALPHA", 4), ("FOO", 1), ("YUV", 3)]
    )
    def test_pam_of_other_colours_is_refused(self, tmp_path, kind, depth):
        header = f"P7\nWIDTH 1\nHEIGHT 1\nDEPTH {depth}\nMAXVAL 255\nTUPLTYPE {kind}\nENDHDR\n"
        (tmp_path / "x.pam").write_bytes(header.encode() + bytes(depth))
        with pytest.raises(PhotoError, match=f"PAM of {kind}; convert it"):
            read_photo(tmp_path / "x.pam")

    @given(st.sampled_from([b"P%d\n" % i for i in range(1, 8)] + [b"PF\n"]), st.binary(max_size=80))
    def test_any_bytes_are_a_picture_or_refused(self, head, noise):
        with contextlib.suppress(PhotoError):
            assert pnm.read(Path("x"), head + noise).pixels.ndim == 3

    def test_what_it_cannot_hold_is_said(self, tmp_path):
        lost = not_kept(
            Photo(pixels=smooth(np.uint8, 3), icc=PROFILES["ProPhoto"]), tmp_path / "x.ppm"
        )
        assert lost == ["PNM has no place for its colour profile"]


class TestBmp:
    @pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "RGBA"])
    def test_files_of_pillow(self, tmp_path, mode):
        image = Image.fromarray(smooth(np.uint8, 4)).convert("RGB")
        image = Image.fromarray(smooth(np.uint8, 4)) if mode == "RGBA" else image.convert(mode)
        image.save(tmp_path / "x.bmp", dpi=(300, 300))
        read = read_photo(tmp_path / "x.bmp")
        # Without masks, the fourth byte of 32 bits means nothing.
        expected = np.asarray(image.convert({"1": "L", "P": "RGB", "RGBA": "RGB"}.get(mode, mode)))
        assert np.array_equal(read.samples.squeeze(), expected)
        assert read.dpi == pytest.approx((300, 300), abs=0.1)

    def test_colours_are_kept(self, tmp_path):
        def bitmap(space: bytes, colours: bytes, profile: bytes) -> bytes:
            header = struct.pack("<IiiHHI20x16x", 124, 1, 1, 1, 24, 0) + space + colours
            place = struct.pack("<III", 0, 128, len(profile))
            header = header.ljust(108, b"\0") + b"\0\0\0\0" + place[4:] + bytes(4)
            body = header + b"abc\0" + profile
            return b"BM" + struct.pack("<I4xI", 14 + len(body), 14 + 124) + body

        def profile_of(*parts: bytes) -> bytes | None:
            (tmp_path / "x.bmp").write_bytes(bitmap(*parts))
            read = read_photo(tmp_path / "x.bmp")
            assert read.pixels.tobytes() == b"cba"
            return read.icc

        profile = PROFILES["Display P3"]
        assert profile_of(b"DEBM", b"", profile) == profile
        assert profile_of(b"BGRs", b"", b"") is None
        xyz = (0.5767, 0.2973, 0.0270, 0.1856, 0.6274, 0.0707, 0.1882, 0.0753, 0.9911)
        numbers = [round(value * 2**30) for value in xyz] + [round(2.2 * 2**16)] * 3
        model = colour_model_of(profile_of(bytes(4), struct.pack("<12i", *numbers), b""))
        adobe = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
        assert model.chromaticities == pytest.approx(adobe, abs=0.002)
        assert model.curve == pytest.approx((2.2,), abs=1e-4)
        assert profile_of(bytes(4), bytes(48), b"") is None
        (tmp_path / "x.bmp").write_bytes(bitmap(b"KNIL", b"", b"c:\\x.icm"))
        assert read_photo(tmp_path / "x.bmp").notes == (
            "its colour profile is in another file: left out",
        )

    @pytest.mark.parametrize("channels", [1, 3])
    def test_others_read_ours(self, tmp_path, channels):
        before = photo(np.uint8, channels)
        write_photo(before, tmp_path / "x.bmp")
        with Image.open(tmp_path / "x.bmp") as image:
            assert np.array_equal(np.asarray(image), before.pixels.squeeze())

    def test_rotated_photos_are_turned(self, tmp_path):
        before = Photo(pixels=smooth(np.uint8, 3), orientation=6)
        for suffix in (".bmp", ".ppm"):
            write_photo(before, tmp_path / f"x{suffix}")
            turned = np.rot90(before.pixels, -1)
            assert np.array_equal(read_photo(tmp_path / f"x{suffix}").pixels, turned)

    def test_run_lengths_and_cut_files_are_refused(self, tmp_path):
        file = io.BytesIO()
        Image.fromarray(smooth(np.uint8, 3)).save(file, "BMP")
        content = file.getvalue()
        for damaged in (content[:-10], content[:100], content[:30] + b"\1" + content[31:]):
            (tmp_path / "x.bmp").write_bytes(damaged)
            with pytest.raises(PhotoError, match=r"x\.bmp"):
                read_photo(tmp_path / "x.bmp")


class TestGif:
    def test_the_first_frame_is_read_and_the_others_are_said(self, tmp_path):
        frames = [Image.fromarray(smooth(np.uint8, 3)), Image.new("RGB", (56, 40), "red")]
        frames[0].save(
            tmp_path / "x.gif", save_all=True, append_images=frames[1:], comment=b"hello"
        )
        read = read_photo(tmp_path / "x.gif")
        with Image.open(tmp_path / "x.gif") as image:
            assert np.array_equal(read.pixels, np.asarray(image.convert("RGB")))
        assert read.notes == ("palette turned into RGB", "only the first of 2 frames is kept")
        assert read.texts == (("Comment", "hello"),)

    @pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
    def test_truncated_files_are_refused(self, tmp_path, keep):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        Image.fromarray(noise).save(tmp_path / "x.gif")
        content = (tmp_path / "x.gif").read_bytes()
        (tmp_path / "x.gif").write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(PhotoError, match=r"x\.gif"):
            read_photo(tmp_path / "x.gif")

    @pytest.mark.parametrize("side", [0, 1])
    def test_a_frame_beside_the_picture_is_damage(self, tmp_path, side):
        path = tmp_path / "x.gif"
        Image.new("L", (20, 16), 90).save(path)
        content = bytearray(path.read_bytes())
        at = content.index(b"\x2c\0\0\0\0\x14\0\x10\0") + 1 + 2 * side  # the frame's place
        content[at] = 200
        path.write_bytes(content)
        with pytest.raises(PhotoError, match="its frame lies beside the picture"):
            read_photo(path)


class TestDeepJpeg:
    @pytest.mark.parametrize("bits", [12, 16])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_more_than_8_bits(self, tmp_path, bits, channels):
        imagecodecs = pytest.importorskip("imagecodecs", reason="the codecs extra")
        pixels = smooth(np.uint16, channels) >> (16 - bits)
        for lossless in (True,) if bits == 16 else (True, False):
            content = imagecodecs.jpeg8_encode(
                pixels.squeeze(),
                level=100,
                bitspersample=bits,
                lossless=lossless,
                subsampling="444",
            )
            Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", icc_profile=PROFILES["Display P3"])
            tiny = (tmp_path / "x.jpg").read_bytes()
            profile = tiny[20 : tiny.index(b"\xff\xdb")]
            (tmp_path / "x.jpg").write_bytes(content[:2] + profile + content[2:])
            read = read_photo(tmp_path / "x.jpg")
            expected = pixels * (65535 / ((1 << bits) - 1))
            assert read.pixels.dtype == np.uint16
            assert np.abs(read.pixels - expected).max() <= (1 if lossless else 120)
            assert read.icc == (PROFILES["Display P3"] if channels == 3 else None)
            assert (read.quantisation_step is None) == lossless and read.jpeg is None

    def test_without_the_extra_it_is_named(self, tmp_path, monkeypatch):
        imagecodecs = pytest.importorskip("imagecodecs", reason="the codecs extra")
        content = imagecodecs.jpeg8_encode(smooth(np.uint16, 3) >> 4, bitspersample=12)
        (tmp_path / "x.jpg").write_bytes(content)
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
        with pytest.raises(PhotoError, match=r'pip install "amsnet\[codecs\]"'):
            read_photo(tmp_path / "x.jpg")

    def test_truncated_files_are_refused(self, tmp_path):
        imagecodecs = pytest.importorskip("imagecodecs", reason="the codecs extra")
        noise = np.random.default_rng(0).integers(0, 4096, (64, 64, 3), np.uint16)
        content = imagecodecs.jpeg8_encode(noise, bitspersample=12)
        for keep in (0.02, 0.5, 0.9):
            (tmp_path / "x.jpg").write_bytes(content[: int(len(content) * keep)])
            with pytest.raises(PhotoError, match=r"x\.jpg"):
                read_photo(tmp_path / "x.jpg")

    def test_8_bits_without_loss(self, tmp_path):
        imagecodecs = pytest.importorskip("imagecodecs", reason="makes the file")
        pixels = smooth(np.uint8, 3)
        (tmp_path / "x.jpg").write_bytes(imagecodecs.jpeg8_encode(pixels, lossless=True))
        read = read_photo(tmp_path / "x.jpg")
        assert np.array_equal(read.pixels, pixels) and read.quantisation_step is None


class TestHeif:
    def with_transfer(self, content: bytes, transfer: int, nth: int = 0) -> bytes:
        at = -1
        for _ in range(nth + 1):
            at = content.index(b"colrnclx", at + 1)
        return content[: at + 10] + bytes((0, transfer)) + content[at + 12 :]

    @pytest.mark.parametrize("icc", [None, PROFILES["Display P3"]])
    @pytest.mark.parametrize("transfer", [16, 18])
    def test_hdr_avif_is_refused_beside_any_profile(self, tmp_path, icc, transfer):
        path = tmp_path / "x.avif"
        Image.fromarray(smooth(np.uint8, 3)).save(path, icc_profile=icc)
        content = path.read_bytes()
        assert read_photo(path).icc == icc
        path.write_bytes(self.with_transfer(content, transfer))
        with pytest.raises(PhotoError, match=r"x\.avif: HDR"):
            read_photo(path)

    def test_further_pictures_are_said(self, tmp_path):
        pillow_heif = pytest.importorskip("pillow_heif", reason="the heic extra")
        file = pillow_heif.from_pillow(Image.fromarray(smooth(np.uint8, 3)))
        file.add_from_pillow(Image.new("RGB", (64, 64)))
        file.save(tmp_path / "x.heic", quality=95)
        photo = read_photo(tmp_path / "x.heic")
        assert photo.notes == ("only the main one of 2 pictures is kept",)
        assert photo.pixels.shape == (40, 56, 3)

    @pytest.mark.parametrize("suffix", [".avif", ".heic"])
    def test_colours_multiplied_by_transparency_keep_their_meaning(self, tmp_path, suffix):
        straight = photo(np.uint8, 3, alpha=True)
        cover = np.maximum(straight.alpha, 64)
        path = tmp_path / f"x{suffix}"
        if suffix == ".avif":  # Pillow multiplies them.
            picture = Image.fromarray(np.dstack([straight.pixels, cover]))
            picture.save(path, quality=100, subsampling="4:4:4", alpha_premultiplied=True)
        else:
            pillow_heif = pytest.importorskip("pillow_heif", reason="the heic extra")
            colours = np.rint(straight.pixels * (cover[..., None] / 255)).astype(np.uint8)
            samples = np.dstack([colours, cover])
            size = samples.shape[1::-1]
            file = pillow_heif.from_bytes("RGBa", size, samples.tobytes())
            file.save(path, quality=-1, chroma=444)
        read = read_photo(path)
        assert read.fourth_channel == "associated"
        write_photo(read, tmp_path / "y.png")
        after = read_photo(tmp_path / "y.png")
        assert np.abs(after.pixels.astype(int) - straight.pixels).mean() < 3

    def test_a_sequence_is_said(self, tmp_path):
        picture = Image.fromarray(smooth(np.uint8, 3))
        others = [picture.rotate(180)]
        picture.save(tmp_path / "x.avif", save_all=True, append_images=others)
        read = read_photo(tmp_path / "x.avif")
        assert read.notes == ("the sequence in the file is left out, its main picture is kept",)

    @pytest.mark.parametrize(("main", "expected"), [(1, (9, 16)), (2, (1, 13)), (3, None)])
    @pytest.mark.parametrize("wide", [False, True])
    def test_only_the_main_picture_s_colours_count(self, main, expected, wide):
        def box(kind: bytes, body: bytes) -> bytes:
            return struct.pack(">I4s", 8 + len(body), kind) + body

        colours = [box(b"colr", b"nclx" + struct.pack(">HHHB", *c)) for c in
                   ((9, 16, 9, 128), (1, 13, 6, 128))]  # fmt: skip
        properties = box(b"ipco", box(b"ispe", bytes(12)) + b"".join(colours))
        head, item, number = (b"\1\0\0\1", ">I", ">H") if wide else (bytes(4), ">H", ">B")
        links = b"".join(
            struct.pack(item, i) + b"\2" + struct.pack(number, 1) + struct.pack(number, i + 1)
            for i in (1, 2)
        )
        links = box(b"ipma", head + struct.pack(">I", 2) + links)
        primary = box(b"pitm", head[:1] + bytes(3) + struct.pack(item, main))
        meta = box(b"meta", bytes(4) + primary + box(b"iprp", properties + links))
        content = box(b"ftyp", b"heic" + bytes(4)) + meta
        assert heif.code_points_of(content) == expected

    @given(st.binary(max_size=200))
    def test_any_boxes_are_judged_without_a_crash(self, noise):
        heif.code_points_of(noise)
        meta = struct.pack(">I4s", 12 + len(noise), b"meta") + bytes(4) + noise
        heif.code_points_of(meta)
        for kind in (b"pitm", b"iprp"):
            box = struct.pack(">I4s", 8 + len(noise), kind) + noise
            heif.code_points_of(struct.pack(">I4s", 12 + len(box), b"meta") + bytes(4) + box)


def test_every_format_has_suffixes_of_its_own():
    suffixes = [suffix for known in FORMATS for suffix in known.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in suffixes)


def test_a_batch_of_every_format_goes_through_the_command_line(amsnet, tiny_model, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.bmp", "b.ppm", "c.gif", "d.jfif"):
        image = Image.fromarray(smooth(np.uint8, 3))
        image.save(folder / name, "JPEG" if name[-4:] == "jfif" else None)
    result = amsnet("denoise", folder, "-o", tmp_path / "out", "-w", tiny_model)
    assert result.exit_code == 0, result.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "a.bmp", "b.ppm", "c.tif", "d.jfif",
    ]  # fmt: skip
