from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from amsnet_cli.photos import exif, ifd
from amsnet_cli.photos.formats import jpeg_segments as jpeg
from amsnet_cli.photos.formats import png, png_texts, raw, tiff
from amsnet_cli.photos.image_resources import iptc_in_resources
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import write_photo
from tests.test_photos import MAKER_NOTE, exif_block
from tests.test_round_trip import IPTC


def loaded(block: bytes) -> Image.Exif:
    read = Image.Exif()
    read.load(block)
    return read


class TestBlocks:
    @given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=200))
    def test_a_software_note_moves_nothing(self, note):
        before = exif_block()
        after = exif.with_software(before, note)
        place = before.index(MAKER_NOTE)
        assert after[place : place + len(MAKER_NOTE)] == MAKER_NOTE
        assert after[8 : len(before)] == before[8:], "only the header may change"
        read = loaded(after)
        assert read[305] == note.strip() or read[305] == note
        assert read[272] == "EOS 6D" and read.get_ifd(0x8769)[37500] == MAKER_NOTE

    def test_a_second_note_goes_behind_the_first(self):
        twice = exif.with_software(exif.with_software(exif_block(), "Ver.1.2"), "amsnet 0")
        assert loaded(twice)[305] == "Ver.1.2; amsnet 0"
        assert loaded(exif.with_software(None, "amsnet 0"))[305] == "amsnet 0"

    def test_the_thumbnail_stays(self):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG")
        thumbnail = {513: ifd.Entry(type=4, count=1, value=struct.pack("<I", 8))}
        block = ifd.append_tree(b"II*\0\0\0\0\0" + file.getvalue(), thumbnail)
        first = len(block) + len(block) % 2
        block = ifd.append_tree(block, {0x10F: ifd.Entry(type=2, count=4, value=b"Abc\0")})
        second = struct.unpack_from("<I", block, 4)[0] + 2 + 12
        block = block[:second] + struct.pack("<I", first - 18) + block[second + 4 :]
        after = exif.with_software(block, "amsnet")
        start = struct.unpack_from("<I", after, 4)[0]
        count = struct.unpack_from("<H", after, start)[0]
        following = after[start + 2 + 12 * count :][:4]
        assert following == struct.pack("<I", first - 18) and count == 2

    @given(st.integers(1, 8))
    def test_orientation_is_added_where_it_was_missing(self, orientation):
        bare = exif.without_orientation(exif_block())
        assert 274 not in loaded(bare) and loaded(bare).get_ifd(0x8769)[37500] == MAKER_NOTE
        after = exif.with_orientation(bare, orientation)
        assert loaded(after).get(274, 1) == orientation

    @given(st.binary(max_size=400))
    def test_any_bytes_are_taken_without_a_crash(self, noise):
        for block in (noise, b"II*\0\x08\0\0\0" + noise, b"MM\0+\0\x08\0\0" + noise):
            exif.is_sound(block)
            exif.with_orientation(block, 3)
            exif.without_orientation(block)
            exif.with_software(block, "amsnet")
            raw.exif_of(block)
            raw.is_raw(block)

    def test_directories_that_point_to_themselves_end(self):
        block = bytearray(exif_block())
        start = struct.unpack_from(">I", block, 4)[0]
        for entry in range(start + 2, len(block) - 12, 12):
            if struct.unpack_from(">H", block, entry)[0] in (ifd.EXIF_IFD, ifd.GPS_IFD):
                struct.pack_into(">I", block, entry + 8, start)
        assert ifd.read_tree(bytes(block))[271]

    def test_huge_counts_read_nothing(self):
        entry = struct.pack("<HHII", 271, 2, 0xFFFFFFFF, 8)
        assert ifd.read_tree(b"II*\0\x08\0\0\0" + b"\x01\0" + entry + bytes(4)) == {}


class TestTiff:
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_values_keep_their_meaning_in_either_order(self, tmp_path, order):
        path = tmp_path / "x.tif"
        tags = [
            (271, 2, 0, "Canon", True), (33432, 2, 0, "(c) me", True), (18246, 3, 1, 4, True),
            (50001, 12, 2, (1.5, -2.25), True), (50002, 10, 1, (-1, 3), True),
            (50003, 4, 3, (1, 70000, 3), True), (50004, 7, 3, b"abc", True),
        ]  # fmt: skip
        pixels = np.zeros((4, 4, 3), np.uint8)
        tifffile.imwrite(path, pixels, byteorder=order, extratags=tags, metadata=None)
        block = tiff.exif_of(ifd.read_tree(path.read_bytes()), order)
        tifffile.imwrite(path, pixels, metadata=None, software=None)
        record = ifd.Entry(type=7, count=len(IPTC), value=IPTC)
        path.write_bytes(tiff.with_tags(path.read_bytes(), block, {tiff.IPTC: record}))
        with tifffile.TiffFile(path) as file:
            found = {tag.code: tag.value for tag in file.pages[0].tags}
        assert {code: found[code] for code, *_ in tags} == {
            code: value for code, _, _, value, _ in tags
        }
        assert found[33723] == IPTC
        assert np.array_equal(tifffile.imread(path), pixels)


class TestRaw:
    """Where cameras keep EXIF in RAW files that are no TIFF; files made by the formats' layout."""

    def test_fujifilm(self):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG", exif=b"Exif\0\0" + exif_block())
        head = b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0")
        place = struct.pack(">II", 200, len(file.getvalue()))
        raf = (head + place).ljust(200, b"\0") + file.getvalue()
        assert raw.exif_of(raf) == exif_block()

    def test_canon_cr3(self):
        def box(name: bytes, directory: ifd.Directory) -> bytes:
            content = ifd.append_tree(b"II*\0\0\0\0\0", directory)
            return struct.pack(">I4s", len(content) + 8, name) + content

        text = ifd.Entry(type=2, count=6, value=b"Canon\0")
        speed = ifd.Entry(type=3, count=1, value=struct.pack("<H", 1600))
        north = ifd.Entry(type=2, count=2, value=b"N\0")
        cr3 = struct.pack(">I8s8x", 20, b"ftypcrx ") + box(b"CMT1", {271: text, 256: speed})
        cr3 += box(b"CMT2", {34855: speed}) + box(b"CMT4", {1: north})
        read = loaded(raw.exif_of(cr3))
        assert dict(read) == {271: "Canon", 34665: read[34665], 34853: read[34853]}
        assert read.get_ifd(0x8769)[34855] == 1600 and read.get_ifd(0x8825)[1] == "N"

    @given(st.binary(max_size=300))
    def test_any_bytes_are_taken_without_a_crash(self, noise):
        for head in (b"", b"FUJIFILMCCD-RAW ", b"\0\0\0\x14ftypcrx ", b"\0\0\0\x14ftypcrx CMT1"):
            raw.exif_of(head + noise)


class TestIptc:
    @given(st.binary(min_size=1, max_size=3000))
    def test_there_and_back(self, record):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG")
        assert jpeg.iptc_of(jpeg.with_resources(file.getvalue(), record, None)) == record
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "PNG")
        content = png.with_chunks(file.getvalue(), [png_texts.resources_chunk(record, None)])
        profiles = dict(map(png_texts.raw_profile, png_texts.texts_of(list(png.chunks(content)))))
        assert profiles["iptc"] == record
        Image.open(io.BytesIO(content)).load()

    @given(st.binary(max_size=300))
    def test_any_bytes_are_taken_without_a_crash(self, noise):
        for content in (
            b"\xff\xd8" + noise,
            b"\xff\xd8\xff\xdb" + noise,
            b"\xff\xd8\xff\xed" + noise,
        ):
            jpeg.coding_of(content)
            jpeg.iptc_of(content)
        iptc_in_resources(b"8BIM" + noise)
        texts = [(kind, noise) for kind in (b"tEXt", b"zTXt", b"iTXt")]
        for text in png_texts.texts_of(texts):
            png_texts.raw_profile(text)


@pytest.mark.parametrize("quality", [20, 75, 95, 98])
def test_a_jpeg_is_as_fine_as_it_was_but_at_least_of_quality_95(tmp_path, quality):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name, how in (("x.jpg", quality), ("fine.jpg", max(quality, 95))):
        Image.fromarray(pixels).save(tmp_path / name, quality=how)
    write_photo(read_photo(tmp_path / "x.jpg"), tmp_path / "y.jpg")
    after, fine = (jpeg.coding_of((tmp_path / n).read_bytes()) for n in ("y.jpg", "fine.jpg"))
    assert after == fine


@pytest.mark.parametrize("quality", [1, 30, 75, 95, 100])
def test_quantisation_is_read_as_pillow_reads_it(quality):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=quality, progressive=quality == 75)
    coding = jpeg.coding_of(file.getvalue())
    with Image.open(file) as image:
        assert list(coding.luma) == list(image.quantization[0])
        assert list(coding.chroma) == list(image.quantization[1])
    assert coding.progressive == (quality == 75)


def camera_block(order: str, make: str, model: str, **speeds: tuple[int, int]) -> bytes:
    """Make an EXIF block; a speed is named by the tag `x8827` and has a TIFF type and a number."""

    def text(words: str) -> ifd.Entry:
        content = words.encode() + b"\0"
        return ifd.Entry(type=ifd.ASCII, count=len(content), value=content)

    exposure: ifd.Directory = {}
    for tag, (kind, number) in speeds.items():
        value = struct.pack(order + {ifd.SHORT: "H", ifd.LONG: "I", 16: "Q"}[kind], number)
        exposure[int(tag[1:], 16)] = ifd.Entry(type=kind, count=1, value=value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 0)
    tree: ifd.Directory = {exif.MAKE: text(make), exif.MODEL: text(model), ifd.EXIF_IFD: exposure}
    return ifd.append_tree(head, tree)


class TestCamera:
    @pytest.mark.parametrize(
        ("make", "model", "name"),
        [
            ("Canon", "Canon EOS 6D", "Canon EOS 6D"),
            ("NIKON CORPORATION", "NIKON D800", "NIKON D800"),
            ("Apple", "iPhone 7", "Apple iPhone 7"),
            ("LG Electronics", "LG-H815", "LG-H815"),
            ("samsung", "Samsung  SM-G920F \0\0", "Samsung SM-G920F"),
            (" SONY  ", "ILCE-7\x1b[31m\n\0rest", "SONY ILCE-7 [31m"),
            ("", "D70", "D70"),
            ("Zeiß", "", "Zeiß"),
            (" \0", "\0", None),
        ],
    )
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_goes_by_one_name(self, order, make, model, name):
        assert exif.camera_of(camera_block(order, make, model)) == (name, None)

    @pytest.mark.parametrize(
        ("speeds", "iso"),
        [
            ({"x8827": (3, 1600)}, 1600),
            ({"x8827": (4, 1600)}, 1600),
            ({"x8827": (3, 65535), "x8830": (3, 2), "x8832": (4, 102400)}, 102400),
            ({"x8827": (3, 65535), "x8832": (4, 0), "x8833": (4, 204800)}, 204800),
            ({"x8827": (3, 65535), "x8830": (3, 1), "x8831": (4, 81920)}, 81920),
            ({"x8827": (3, 0)}, None),
            ({"x8827": (16, 1 << 40)}, None),
            ({"x8827": (3, 65535)}, None),
            ({}, None),
        ],
    )
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_says_its_speed(self, order, speeds, iso):
        assert exif.camera_of(camera_block(order, "Canon", "EOS 6D", **speeds))[1] == iso

    def test_as_other_programs_write_it(self, tmp_path):
        block = Image.Exif()
        block[271], block[272] = "FUJIFILM", "X-T3"
        block.get_ifd(0x8769)[34855] = (640, 0)
        for name in ("x.jpg", "x.png", "x.webp"):
            Image.new("RGB", (16, 16)).save(tmp_path / name, exif=block)
            assert exif.camera_of(read_photo(tmp_path / name).exif) == ("FUJIFILM X-T3", 640)
        tags = [(271, 2, 0, "FUJIFILM", True), (272, 2, 0, "X-T3", True), (34855, 3, 1, 640, True)]
        pixels = np.zeros((4, 4, 3), np.uint8)
        tifffile.imwrite(tmp_path / "y.tif", pixels, extratags=tags, metadata=None)
        assert exif.camera_of(read_photo(tmp_path / "y.tif").exif) == ("FUJIFILM X-T3", 640)

    @given(st.binary(max_size=400))
    def test_any_bytes_name_a_camera_or_none(self, noise):
        for block in (noise, b"II*\0\x08\0\0\0" + noise, b"MM\0+\0\x08\0\0" + noise):
            self.check(block)

    @given(st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=12), st.integers(0))
    def test_so_does_any_damage(self, changes, end):
        block = bytearray(camera_block("<", "Canon", "EOS 6D", x8827=(3, 65535), x8832=(4, 1)))
        for place, byte in changes:
            block[place % len(block)] = byte
        self.check(bytes(block[: len(block) - end % 40]))

    def check(self, block: bytes) -> None:
        camera, iso = exif.camera_of(block)
        assert camera is None or (camera.isprintable() and camera == " ".join(camera.split()) != "")
        assert iso is None or (type(iso) is int and 0 < iso < 2**32 - 1)

    def test_none_without_a_block(self):
        assert exif.camera_of(None) == exif.camera_of(b"") == (None, None)
