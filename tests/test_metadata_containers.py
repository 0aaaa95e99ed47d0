"""What a file holds beside pixels, EXIF and XMP survives, or is said to be left out."""

from __future__ import annotations

import importlib.util
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amsnet_cli.photos import exif, ifd
from amsnet_cli.photos.formats.exr_header import with_attributes
from amsnet_cli.photos.photo import Photo, without_metadata
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import not_kept, write_photo
from tests.test_metadata import raw_profile
from tests.test_photos import XMP, exif_block
from tests.test_raw import bayer_dng, mosaic_of
from tests.test_round_trip import IPTC, PROFILES, png_chunk, smooth, write_png

HAS_CODECS = importlib.util.find_spec("imagecodecs") is not None


def resource(number: int, data: bytes, name: bytes = b"\0\0") -> bytes:
    head = b"8BIM" + struct.pack(">H", number) + name + struct.pack(">I", len(data))
    return head + data + b"\0" * (len(data) % 2)


KEPT = (
    resource(0x40A, b"\1") + resource(0x40B, b"https://x.org") + resource(0x425, bytes(16), b"\1n")
)
"""Copyright flag, address, IPTC digest."""
STALE = resource(0x40C, b"thumbnail") + resource(0x3ED, bytes(16)) + resource(0x421, b"version")


def with_segment(path: Path, marker: int, payload: bytes) -> Path:
    content = path.read_bytes()
    segment = struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload
    path.write_bytes(content[:20] + segment + content[20:])
    return path


class TestPhotoshop:
    def files(self, folder: Path) -> dict[str, Path]:
        resources = STALE + resource(0x404, IPTC) + KEPT
        pixels = smooth(np.uint8, 3)
        Image.fromarray(pixels).save(folder / "x.jpg")
        with_segment(folder / "x.jpg", 0xED, b"Photoshop 3.0\0" + resources)
        write_png(folder / "x.png", pixels, raw_profile("8bim", resources))
        Image.fromarray(pixels).save(folder / "x.tif")
        content = (folder / "x.tif").read_bytes()
        entry = ifd.Entry(type=7, count=len(resources), value=resources)
        tree = ifd.read_tree(content) | {0x8649: entry}
        (folder / "x.tif").write_bytes(ifd.append_tree(content, tree))
        content = bayer_dng(mosaic_of(np.full((40, 64), 0.18)))
        tree = ifd.read_tree(content) | {0x8649: entry}
        (folder / "x.dng").write_bytes(ifd.append_tree(content, tree))
        header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, *pixels.shape[:2], 8, 3) + bytes(4)
        body = struct.pack(">I", len(resources)) + resources + bytes(4) + bytes(2)
        planes = np.moveaxis(pixels, 2, 0).tobytes()
        (folder / "x.psd").write_bytes(header + body + planes)
        return {path.suffix: path for path in folder.glob("x.*")}

    def test_copyright_and_address_survive_or_are_said(self, tmp_path):
        for path in self.files(tmp_path).values():
            photo = read_photo(path)
            assert (photo.iptc, photo.resources) == (IPTC, KEPT), path.suffix
            photo = replace(photo, bits=8)
            for suffix in (".jpg", ".png", ".tif"):
                out = tmp_path / f"y{suffix}"
                write_photo(photo, out)
                after = read_photo(out)
                assert (after.iptc, after.resources) == (IPTC, KEPT), (path.suffix, suffix)
                assert not_kept(photo, out) == []
            for name, suffix in (("WebP", ".webp"), ("AVIF", ".avif")):
                said = f"{name} has no place for its IPTC record, Photoshop resources"
                assert not_kept(photo, tmp_path / f"y{suffix}") == [said]
        assert without_metadata(photo).resources is None

    @pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
    def test_exiftool_finds_them(self, tmp_path):
        photo = Photo(pixels=smooth(np.uint8, 3), iptc=IPTC, resources=KEPT)
        for suffix in (".jpg", ".png", ".tif"):
            write_photo(photo, tmp_path / f"x{suffix}")
            found = subprocess.run(
                ["exiftool", "-s3", "-URL", "-IPTC:all", str(tmp_path / f"x{suffix}")],
                capture_output=True, check=True, text=True,
            ).stdout.split("\n")  # fmt: skip
            assert found[0] == "https://x.org" and found[1], suffix

    def test_what_jpeg_cannot_hold_is_said(self, tmp_path):
        long = resource(0x40B, b"x" * 64_990)
        photo = Photo(pixels=smooth(np.uint8, 3), iptc=IPTC, resources=long)
        said = not_kept(photo, tmp_path / "x.jpg")
        assert said == ["its Photoshop resources of 65002 bytes is more than a JPEG can hold"]
        write_photo(photo, tmp_path / "x.jpg")
        after = read_photo(tmp_path / "x.jpg")
        assert (after.iptc, after.resources) == (IPTC, None)


class TestJpeg:
    @pytest.mark.parametrize(
        ("behind", "said"),
        [
            (b"SEFT and more", ("13 bytes behind the picture are left out",)),
            *((b"", ()), (bytes(900), ()), (b"\xff\xd9\r\n", ())),
        ],
    )
    @pytest.mark.parametrize("progressive", [False, True])
    def test_data_behind_the_picture_are_said(self, tmp_path, progressive, behind, said):
        file = tmp_path / "x.jpg"
        Image.fromarray(smooth(np.uint8, 3)).save(file, progressive=progressive)
        file.write_bytes(file.read_bytes() + behind)
        assert read_photo(file).notes == said

    def test_the_comment_of_a_web_export_is_said_and_its_quality_is_not(self, tmp_path):
        quality = b"Ducky\0\1\0\4\0\0\0\x50"
        for more, said in ((b"\0\0", False), (b"\0\3\0\7\0\0\0\1\0a\0\0", True)):
            Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / "x.jpg")
            photo = read_photo(with_segment(tmp_path / "x.jpg", 0xEC, quality + more))
            assert (photo.notes == ("other data in the file is left out: APP12 Ducky",)) == said


class TestPng:
    @pytest.mark.parametrize("name", ["IPTC profile", "iptc", ""])
    def test_raw_profiles_under_names_of_several_words(self, tmp_path, name):
        """ExifTool names them so."""
        text = f"\n{name}\n{len(IPTC):8}\n{IPTC.hex()}\n".encode()
        write_png(
            tmp_path / "x.png", smooth(np.uint8, 3),
            png_chunk(b"tEXt", b"Raw profile type iptc\0" + text),
        )  # fmt: skip
        assert read_photo(tmp_path / "x.png").iptc == IPTC

    @pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
    def test_what_exiftool_writes(self, tmp_path):
        path = tmp_path / "x.png"
        write_png(path, smooth(np.uint8, 3))
        subprocess.run(
            ["exiftool", "-q", "-m", "-IPTC:City=Bern", "-Photoshop:URL=http://x", str(path)],
            check=True,
        )
        photo = read_photo(path)
        assert b"Bern" in photo.iptc and b"http://x" in photo.resources

    def test_raw_profiles_of_other_kinds_stay_texts(self, tmp_path):
        write_png(tmp_path / "x.png", smooth(np.uint8, 3), raw_profile("mine", b"abc"))
        photo = read_photo(tmp_path / "x.png")
        assert [keyword for keyword, _ in photo.texts] == ["Raw profile type mine"]
        write_photo(photo, tmp_path / "y.png")
        assert read_photo(tmp_path / "y.png").texts == photo.texts

    def test_a_missing_end_and_bytes_behind_it_are_said(self, tmp_path):
        write_png(tmp_path / "x.png", smooth(np.uint8, 3))
        content = (tmp_path / "x.png").read_bytes()
        for changed, said in (
            (content[:-12], ("the end mark of the file is missing, every pixel is there",)),
            (content + b"secret", ("6 bytes behind the picture are left out",)),
            (content + bytes(6), ()),
        ):
            (tmp_path / "x.png").write_bytes(changed)
            photo = read_photo(tmp_path / "x.png")
            assert photo.notes == said and np.array_equal(photo.pixels, smooth(np.uint8, 3))

    def test_malformed_texts_are_said(self, tmp_path):
        chunks = png_chunk(b"tEXt", b"Title\0a") + png_chunk(b"zTXt", b"Author\0\0no zlib")
        write_png(tmp_path / "x.png", smooth(np.uint8, 3), chunks)
        photo = read_photo(tmp_path / "x.png")
        assert photo.notes == ("its malformed texts are left out",)
        assert photo.texts == (("Title", "a"),)

    def test_other_chunks_are_named(self, tmp_path):
        chunks = png_chunk(b"caBX", b"c2pa") + png_chunk(b"tIME", bytes(7))
        write_png(tmp_path / "x.png", smooth(np.uint8, 3), chunks)
        notes = read_photo(tmp_path / "x.png").notes
        assert notes == ("other data in the file is left out: caBX",)


def test_gif_has_xmp_a_profile_and_comments(tmp_path):
    def blocks(data: bytes) -> bytes:
        parts = (data[i : i + 255] for i in range(0, len(data), 255))
        return b"".join(bytes((len(part),)) + part for part in parts) + b"\0"

    behind_xmp = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    added = b"\x21\xff\x0bXMP DataXMP" + XMP + behind_xmp
    added += b"\x21\xff\x0bICCRGBG1012" + blocks(PROFILES["Display P3"])
    added += b"\x21\xff\x0bC2PA_GIF\1\0\0" + blocks(b"signed")
    Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / "x.gif")
    content = (tmp_path / "x.gif").read_bytes()
    content = content[:-1] + b"\x21\xfe" + blocks(b"late") + b";"  # behind the frame
    palette = 3 << (content[10] & 7) + 1
    (tmp_path / "x.gif").write_bytes(content[: 13 + palette] + added + content[13 + palette :])
    photo = read_photo(tmp_path / "x.gif")
    assert (photo.xmp, photo.icc) == (XMP, PROFILES["Display P3"])
    assert photo.texts == (("Comment", "late"),)
    said = "other data in the file is left out: C2PA_GIF"
    assert photo.notes == ("palette turned into RGB", said)


class TestPnm:
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_comments_come_through(self, tmp_path, channels):
        samples = smooth(np.uint8, channels)
        texts = (("Comment", "made by me"), ("Comment", "Grüße"))
        photo = Photo(
            pixels=samples[..., :3], alpha=samples[..., 3] if channels == 4 else None, texts=texts
        )
        write_photo(photo, tmp_path / "x.pnm")
        after = read_photo(tmp_path / "x.pnm")
        assert after.texts == texts and np.array_equal(after.samples, samples)
        if channels < 4:
            with Image.open(tmp_path / "x.pnm") as image:
                assert np.array_equal(np.asarray(image), samples.squeeze())
        assert not_kept(photo, tmp_path / "x.pnm") == []

    def test_pfm_has_none(self, tmp_path):
        photo = Photo(pixels=smooth(np.float32, 3), texts=(("Comment", "a"),))
        assert not_kept(photo, tmp_path / "x.pfm") == ["PFM has no place for its comments"]
        write_photo(photo, tmp_path / "x.pfm")
        assert np.array_equal(read_photo(tmp_path / "x.pfm").pixels, photo.pixels)


def test_webp_names_other_chunks(tmp_path):
    Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / "x.webp", exif=b"Exif\0\0" + exif_block(1))
    content = (tmp_path / "x.webp").read_bytes() + b"C2PA" + struct.pack("<I", 3) + b"abc\0"
    (tmp_path / "x.webp").write_bytes(
        content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
    )
    photo = read_photo(tmp_path / "x.webp")
    assert photo.notes == ("other data in the file is left out: C2PA",) and photo.exif
    with (tmp_path / "x.webp").open("ab") as file:
        file.write(b"more")
    assert read_photo(tmp_path / "x.webp").notes[1] == "4 bytes behind the picture are left out"


def test_a_depth_map_in_heic_is_said(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the heic extra")
    path = tmp_path / "x.heic"
    pillow_heif.from_pillow(Image.fromarray(smooth(np.uint8, 4))).save(path)
    assert read_photo(path).notes == ()
    content = path.read_bytes()
    alpha = b"urn:mpeg:hevc:2015:auxid:1\0"
    if alpha not in content:
        alpha = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"
    path.write_bytes(content.replace(alpha, alpha[:-2] + b"2\0"))
    said = "further pictures in the file, such as a depth or gain map, are left out"
    assert said in read_photo(path).notes


@pytest.mark.skipif(not HAS_CODECS, reason="the codecs extra")
class TestBoxes:
    def test_jpeg_2000_names_them_and_keeps_the_resolution(self, tmp_path):
        from amsnet_cli.photos.boxes import box

        Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / "x.jp2")
        content = (tmp_path / "x.jp2").read_bytes()
        at = content.index(b"jp2h") - 4
        size = struct.unpack_from(">I", content, at)[0]
        # 300 dots an inch: 11811 points a metre
        resolution = box(b"res ", box(b"resd", struct.pack(">4H2b", 11811, 1, 11811, 10, 0, 1)))
        header = box(b"jp2h", content[at + 8 : at + size] + resolution)
        others = box(b"xml ", b"<a/>") + box(b"uuid", bytes(16) + b"?")
        (tmp_path / "x.jp2").write_bytes(content[:at] + header + others + content[at + size :])
        photo = read_photo(tmp_path / "x.jp2")
        assert photo.dpi == pytest.approx((300, 300), abs=0.01)
        assert photo.notes == ("other data in the file is left out: xml, uuid",)

    def test_jpeg_xl_names_them(self, tmp_path):
        from amsnet_cli.photos.boxes import box

        write_photo(Photo(pixels=smooth(np.uint8, 3), exif=exif_block(1)), tmp_path / "x.jxl")
        content = (tmp_path / "x.jxl").read_bytes()
        at = content.index(b"Exif") - 4
        (tmp_path / "x.jxl").write_bytes(content[:at] + box(b"jumb", b"c2pa") + content[at:])
        photo = read_photo(tmp_path / "x.jxl")
        assert photo.notes == ("other data in the file is left out: jumb",) and photo.exif


class TestOpenExr:
    ATTRIBUTES = (
        ("framesPerSecond", "rational", struct.pack("<iI", 24000, 1001)),
        ("timeCode", "timecode", bytes(range(8))),
        ("worldToCamera", "m44f", np.eye(4, dtype="<f4").tobytes()),
        ("screenWindowWidth", "float", struct.pack("<f", 2)),
        ("pixelAspectRatio", "float", struct.pack("<f", 1.5)),
        ("a_name_of_more_than_thirty_one_bytes", "mine", b"abcde"),
    )

    def test_typed_attributes_come_through(self, tmp_path):
        library = pytest.importorskip("OpenEXR", reason="the codecs extra")
        before = Photo(
            pixels=smooth(np.float32, 3), texts=(("owner", "me"),), attributes=self.ATTRIBUTES
        )
        write_photo(before, tmp_path / "x.exr")
        read = read_photo(tmp_path / "x.exr")
        write_photo(read, tmp_path / "y.exr")
        after = read_photo(tmp_path / "y.exr")
        for photo in (read, after):
            assert {*photo.attributes} == {*self.ATTRIBUTES} and photo.texts == before.texts
            assert not photo.notes
        with library.File(str(tmp_path / "y.exr")) as file:
            header, pixels = file.header(), file.channels()["RGB"].pixels
            assert np.array_equal(pixels, after.pixels)
            assert np.array_equal(header["worldToCamera"], np.eye(4))
        said = [line for line in not_kept(read, tmp_path / "y.tif") if "attributes" in line]
        assert said[0].startswith("TIFF has no place for its attributes: ")
        assert all(name in said[0] for name, _, _ in self.ATTRIBUTES)
        assert without_metadata(read).attributes == ()

    def test_a_preview_is_left_out_and_said(self, tmp_path):
        pytest.importorskip("OpenEXR", reason="the codecs extra")
        write_photo(Photo(pixels=smooth(np.float32, 3)), tmp_path / "x.exr")
        preview = ("preview", "preview", struct.pack("<II", 1, 1) + bytes(4))
        content = with_attributes((tmp_path / "x.exr").read_bytes(), (preview,))
        (tmp_path / "x.exr").write_bytes(content)
        photo = read_photo(tmp_path / "x.exr")
        assert photo.notes == ("attributes left out: preview",) and photo.attributes == ()


class TestByteOrder:
    """EXIF's tags of bytes that hold numbers, in a block whose order TIFF does not keep."""

    @pytest.mark.parametrize(
        ("tag", "big", "little"),
        [
            (0xA302, "00020002 00010102", "02000200 00010102"),
            (0xA302, "02000200 00010102", "02000200 00010102"),  # as some cameras have it
            (0x8828, "00010001 6100 0000000100000003", "01000100 6100 0100000003000000"),
            (0xA40B, "00010001 00610000", "01000100 61000000"),
        ],
    )
    def test_they_are_turned(self, tmp_path, tag, big, little):
        value = bytes.fromhex(big)
        below: ifd.Directory = {tag: ifd.Entry(type=7, count=len(value), value=value)}
        maker = ifd.Entry(type=2, count=5, value=b"Test\0")
        block = exif.make_block({271: maker, ifd.EXIF_IFD: below}, ">")
        write_photo(Photo(pixels=smooth(np.uint8, 3), exif=block), tmp_path / "x.tif")
        content = (tmp_path / "x.tif").read_bytes()
        assert content[:2] == b"II"
        after = ifd.read_tree(content)[ifd.EXIF_IFD]
        assert isinstance(after, dict) and after[tag].value == bytes.fromhex(little)


def test_raw_keeps_titles_and_ratings(tmp_path):
    content = bayer_dng(mosaic_of(np.full((40, 64), 0.18)))
    title = "Bern".encode("utf-16-le") + b"\0\0"
    tree = ifd.read_tree(content)
    tree[0x4746] = ifd.Entry(type=3, count=1, value=struct.pack("<H", 4))
    tree[0x9C9B] = ifd.Entry(type=1, count=len(title), value=title)
    (tmp_path / "x.dng").write_bytes(ifd.append_tree(content, tree))
    write_photo(read_photo(tmp_path / "x.dng"), tmp_path / "y.tif")
    after = ifd.read_tree((tmp_path / "y.tif").read_bytes())
    assert ifd.first_number(after[0x4746], "<", 0) == 4 and after[0x9C9B].value == title
