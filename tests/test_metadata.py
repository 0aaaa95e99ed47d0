"""EXIF, XMP and texts stay true to the pixels that are written."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import colour, exif, ifd, metadata, xmp
from amsnet_cli.photos.formats.raw import RawOptions
from amsnet_cli.photos.geometry import cropped, upright
from amsnet_cli.photos.photo import Photo, without_metadata
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import not_kept, write_photo
from tests.test_photos import MAKER_NOTE, XMP, exif_block
from tests.test_raw import bayer_dng, mosaic_of
from tests.test_round_trip import IPTC, PROFILES, png_chunk, smooth, write_png

SUFFIXES = (".jpg", ".png", ".tif", ".webp", ".avif")
PACKET = b"""<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF
 xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description rdf:about=''
 xmlns:tiff='http://ns.adobe.com/tiff/1.0/' xmlns:exif='http://ns.adobe.com/exif/1.0/'
 xmlns:GPano='http://ns.google.com/photos/1.0/panorama/'
 xmlns:crs='http://ns.adobe.com/camera-raw-settings/1.0/'
 tiff:Orientation='6' tiff:ImageWidth="64" tiff:ImageLength="40" exif:PixelXDimension='64'
 exif:PixelYDimension='40' GPano:CroppedAreaImageWidthPixels='64' GPano:UsePanoramaViewer='True'
 crs:Exposure2012='+2.00' crs:AlreadyApplied='False' tiff:Artist='Somebody'>
<crs:ToneCurve><rdf:Seq><rdf:li>0, 0</rdf:li></rdf:Seq></crs:ToneCurve>
<GPano:FullPanoWidthPixels>900</GPano:FullPanoWidthPixels></rdf:Description></rdf:RDF></x:xmpmeta>
"""


def rich_exif(orientation: int, thumbnail: bool = True) -> bytes:
    """A block with sizes of 64x40 pixels and a thumbnail."""
    below: ifd.Directory = {
        0xA002: ifd.Entry(type=3, count=1, value=struct.pack("<H", 64)),
        0xA003: ifd.Entry(type=4, count=1, value=struct.pack("<I", 40)),
        37500: ifd.Entry(type=7, count=len(MAKER_NOTE), value=MAKER_NOTE),
    }
    tree: ifd.Directory = {
        271: ifd.Entry(type=2, count=6, value=b"Canon\0"),
        274: ifd.Entry(type=3, count=1, value=struct.pack("<H", orientation)),
        ifd.EXIF_IFD: below,
    }
    if not thumbnail:
        return ifd.append_tree(b"II*\0\0\0\0\0", tree)
    file = io.BytesIO()
    Image.new("RGB", (16, 10), "red").save(file, "JPEG")
    head = b"II*\0\0\0\0\0" + file.getvalue() + b"\0" * (len(file.getvalue()) % 2)
    entries = ((513, 8), (514, len(file.getvalue())))
    second = len(head)
    head += struct.pack("<H", 2) + b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in entries)
    head += bytes(4)
    block = ifd.append_tree(head, tree)
    first = struct.unpack_from("<I", block, 4)[0]
    end = first + 2 + 12 * len(tree)
    return block[:end] + struct.pack("<I", second) + block[end + 4 :]


def thumbnail_of(block: bytes) -> bytes | None:
    read = Image.Exif()
    read.load(b"Exif\0\0" + block)
    first = read.get_ifd(ExifTags.IFD.IFD1)
    start, length = first.get(513), first.get(514)
    return block[start : start + length] if start else None


def stored(orientation: int = 6) -> Photo:
    pixels = smooth(np.uint8, 3)[:40, :56]
    pixels = np.concatenate([pixels, pixels[:, :8]], 1)  # 64x40 pixels
    return Photo(pixels=pixels, exif=rich_exif(orientation), xmp=PACKET, orientation=orientation)


class TestUpright:
    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_all_that_states_orientation_and_size_agrees(self, tmp_path, suffix, orientation):
        before = stored(orientation)
        write_photo(before, tmp_path / f"x{suffix}")
        after = read_photo(tmp_path / f"x{suffix}")
        height, width = after.pixels.shape[:2]
        shown = upright(after.pixels, after.orientation)
        expected = upright(before.pixels, orientation)
        assert np.abs(shown.astype(int) - expected).mean() < 2
        assert exif.orientation_of(after.exif) == after.orientation
        assert xmp.number(after.xmp, xmp.TIFF, "Orientation") == after.orientation
        if suffix != ".tif":
            assert exif.size_of(after.exif) == (width, height)
        assert xmp.number(after.xmp, xmp.TIFF, "ImageWidth") == width
        assert xmp.number(after.xmp, xmp.EXIF, "PixelYDimension") == height
        assert b"Somebody" in after.xmp
        turned = after.orientation != orientation
        if suffix != ".tif":
            assert (thumbnail_of(after.exif) is None) == (turned or suffix == ".avif")
        assert after.exif and MAKER_NOTE in after.exif

    @pytest.mark.skipif(not importlib.util.find_spec("pillow_heif"), reason="the heic extra")
    def test_heic(self, tmp_path):
        import pillow_heif

        image = Image.fromarray(smooth(np.uint8, 3))
        file = pillow_heif.from_pillow(image)
        file.save(tmp_path / "x.heic", exif=b"Exif\0\0" + rich_exif(6), xmp=PACKET)
        photo = read_photo(tmp_path / "x.heic")
        assert exif.orientation_of(photo.exif) == 1 and thumbnail_of(photo.exif) is None
        assert xmp.number(photo.xmp, xmp.TIFF, "Orientation") == 1

    def test_raw(self, tmp_path):
        content = bayer_dng(mosaic_of(np.full((40, 64), 0.18)))
        tree = ifd.read_tree(content)
        tree[274] = ifd.Entry(type=3, count=1, value=struct.pack("<H", 6))
        tree[700] = ifd.Entry(type=1, count=len(PACKET), value=PACKET)
        (tmp_path / "x.dng").write_bytes(ifd.append_tree(content, tree))
        photo = read_photo(tmp_path / "x.dng", RawOptions())
        assert photo.pixels.shape == (64, 40, 3)
        write_photo(photo, tmp_path / "y.tif")
        packet = read_photo(tmp_path / "y.tif").xmp
        assert xmp.number(packet, xmp.TIFF, "Orientation") == 1
        assert xmp.number(packet, xmp.TIFF, "ImageWidth") == 40
        assert xmp.number(packet, xmp.EXIF, "PixelYDimension") == 64
        assert b"crs:" not in packet.replace(b"xmlns:crs", b"") and b"Somebody" in packet

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_part_of_a_picture(self, tmp_path, suffix):
        part = cropped(stored(1), (8, 28, 16, 48))
        write_photo(part, tmp_path / f"x{suffix}")
        after = read_photo(tmp_path / f"x{suffix}")
        assert after.pixels.shape == (20, 32, 3)
        assert xmp.number(after.xmp, xmp.EXIF, "PixelXDimension") == 32
        assert b"GPano:" not in after.xmp.replace(b"xmlns:GPano", b"")
        if suffix != ".tif":
            assert exif.size_of(after.exif) == (32, 20)
            assert thumbnail_of(after.exif) is None and b"\xff\xd8\xff" not in after.exif


class TestXmp:
    @pytest.mark.parametrize("quote", [b"'", b'"'])
    def test_numbers_change_in_either_form_under_any_prefix(self, quote):
        text = b"<d xmlns:t='http://ns.adobe.com/tiff/1.0/' t:Orientation = Q8Q><t:Orientation>8<"
        packet = text.replace(b"Q", quote) + b"/t:Orientation></d>"
        changed = xmp.with_number(packet, xmp.TIFF, "Orientation", 1)
        assert changed == packet.replace(b"8", b"1").replace(b"1.0", b"1.0")
        assert xmp.without(packet, xmp.TIFF, "Orientation").count(b"Orientation") == 0

    def test_other_packets_stay_as_they_are(self):
        for packet in (XMP, b"", b"\xff\xfe<\0x\0", PACKET):
            photo = Photo(pixels=np.zeros((40, 64, 3), np.uint8), xmp=packet, orientation=6)
            assert metadata.with_true_sizes(photo).xmp == packet


class TestJpeg:
    @pytest.mark.parametrize("extra", [63000, 64100, 64400, 70000, 200000])
    def test_long_exif_keeps_the_orientation_and_the_camera(self, tmp_path, extra):
        """A segment holds 65,533 bytes; where our own note does not fit, it goes first."""
        long = ifd.Entry(type=7, count=extra, value=b"m" * extra)
        below: ifd.Directory = {34855: ifd.Entry(type=3, count=1, value=b"\x80\x0c"), 37500: long}
        tree: ifd.Directory = {
            271: ifd.Entry(type=2, count=5, value=b"Test\0"),
            274: ifd.Entry(type=3, count=1, value=b"\6\0"),
            ifd.EXIF_IFD: below,
        }
        block = ifd.append_tree(b"II*\0\0\0\0\0", tree)
        noted = exif.with_software(block, "amsnet 0.1.0 (photo, strength 0.5)")
        photo = Photo(pixels=smooth(np.uint8, 3), exif=noted, orientation=6)
        said = not_kept(photo, tmp_path / "x.jpg")
        write_photo(photo, tmp_path / "x.jpg")
        after = read_photo(tmp_path / "x.jpg")
        assert after.orientation == 6 and exif.camera_of(after.exif) == ("Test", 3200)
        fits = len(block) <= exif.LONGEST
        assert (b"m" * extra in after.exif) == fits and bool(said) != fits

    def test_exif_of_the_longest_segment_is_kept_whole(self, tmp_path):
        for extra in range(65527 - 160, 65527 - 90, 7):
            tree: ifd.Directory = {
                271: ifd.Entry(type=2, count=5, value=b"Test\0"),
                274: ifd.Entry(type=3, count=1, value=b"\6\0"),
                305: ifd.Entry(type=7, count=extra, value=b"m" * extra),
            }
            block = ifd.append_tree(b"II*\0\0\0\0\0", tree)
            photo = Photo(pixels=smooth(np.uint8, 3), exif=block, orientation=6)
            if len(block) <= exif.LONGEST:
                write_photo(photo, tmp_path / "x.jpg")
                assert read_photo(tmp_path / "x.jpg").exif == block

    def test_comments_come_through(self, tmp_path):
        Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / "x.jpg", comment="Grüße".encode())
        photo = read_photo(tmp_path / "x.jpg")
        assert photo.texts == (("Comment", "Grüße"),)
        for suffix in (".jpg", ".png"):
            write_photo(photo, tmp_path / f"y{suffix}")
            assert read_photo(tmp_path / f"y{suffix}").texts == photo.texts
        with Image.open(tmp_path / "y.jpg") as image:
            assert image.info["comment"] == "Grüße".encode()
        assert "Comment" in not_kept(photo, tmp_path / "y.webp")[0]
        assert without_metadata(photo).texts == ()

    def test_a_motion_photo_points_at_no_video(self, tmp_path):
        packet = b"""<x:xmpmeta xmlns:x='adobe:ns:meta/'><r:RDF xmlns:r='urn:rdf'><r:Description
 xmlns:GCamera='http://ns.google.com/photos/1.0/camera/'
 xmlns:Container='http://ns.google.com/photos/1.0/container/' xmlns:dc='urn:dc'
 GCamera:MotionPhoto='1' GCamera:MicroVideoOffset='4000' dc:title='kept'><Container:Directory>
 <r:Seq><r:li r:parseType='Resource'><Container:Item/></r:li></r:Seq></Container:Directory>
 </r:Description></r:RDF></x:xmpmeta>"""
        Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / "x.jpg", xmp=packet)
        content = (tmp_path / "x.jpg").read_bytes() + b"\0\0\0\x18ftypmp42" + bytes(4000)
        (tmp_path / "x.jpg").write_bytes(content)
        photo = read_photo(tmp_path / "x.jpg")
        assert photo.notes == ("the video of a motion photo is left out",)
        assert b"dc:title='kept'" in photo.xmp
        for gone in (b"MotionPhoto", b"MicroVideo", b"Directory", b"Item"):
            assert gone not in photo.xmp

    def test_what_stays_behind_is_named(self, tmp_path):
        Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / "x.jpg")
        content = (tmp_path / "x.jpg").read_bytes()
        segments = [(0xE1, b"FLIR\0temperatures"), (0xEB, b"JP\0\1jumb"), (0xE2, b"ICC_PROFILE\0")]
        path = b"8BIM" + struct.pack(">HHI", 2000, 0, 2) + b"xy"
        segments.append((0xED, b"Photoshop 3.0\0" + path))
        added = b"".join(struct.pack(">BBH", 255, m, len(p) + 2) + p for m, p in segments)
        (tmp_path / "x.jpg").write_bytes(content[:20] + added + content[20:])
        said = " ".join(read_photo(tmp_path / "x.jpg").notes)
        for name in ("APP1 FLIR", "APP11 JP", "clipping paths", "colour profile is damaged"):
            assert name in said

    def test_a_missing_end_mark_is_no_damage(self, tmp_path):
        Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / "x.jpg", quality=95)
        whole = read_photo(tmp_path / "x.jpg")
        content = (tmp_path / "x.jpg").read_bytes()
        (tmp_path / "x.jpg").write_bytes(content[:-2])
        photo = read_photo(tmp_path / "x.jpg")
        assert np.array_equal(photo.pixels, whole.pixels)
        assert photo.notes == ("the end mark of the file is missing, every pixel is there",)


def raw_profile(name: str, data: bytes, kind: bytes = b"zTXt") -> bytes:
    text = f"\n{name}\n{len(data):8}\n".encode()
    text += b"\n".join(data.hex().encode()[i : i + 72] for i in range(0, 2 * len(data), 72)) + b"\n"
    head = f"Raw profile type {name}".encode() + b"\0"
    if kind == b"iTXt":
        return png_chunk(kind, head + b"\0\0\0\0" + text)
    return png_chunk(kind, head + (b"\0" + zlib.compress(text) if kind == b"zTXt" else text))


class TestPng:
    @pytest.mark.parametrize("kind", [b"zTXt", b"tEXt", b"iTXt"])
    @pytest.mark.parametrize("name", ["exif", "APP1"])
    def test_raw_profiles_are_read_and_written_where_all_look(self, tmp_path, kind, name):
        resource = (
            b"8BIM" + struct.pack(">HHI", 0x404, 0, len(IPTC)) + IPTC + b"\0" * (len(IPTC) % 2)
        )
        chunks = raw_profile(name, b"Exif\0\0" + exif_block(6), kind) + raw_profile(
            "xmp", XMP, kind
        )
        chunks += raw_profile("iptc", resource, kind)
        write_png(tmp_path / "x.png", smooth(np.uint8, 3), chunks)
        photo = read_photo(tmp_path / "x.png")
        assert (photo.exif, photo.xmp, photo.iptc) == (exif_block(6), XMP, IPTC)
        assert photo.orientation == 6 and photo.texts == ()
        write_photo(photo, tmp_path / "y.png")
        with Image.open(tmp_path / "y.png") as image:
            assert image.getexif()[274] == 6

    def test_texts_come_through(self, tmp_path):
        texts = (("Author", "Somebody"), ("Description", "日本"), ("Title", "Zoë"))
        chunks = png_chunk(b"tEXt", b"Author\0Somebody")
        chunks += png_chunk(b"iTXt", b"Description\0\1\0ja\0\0" + zlib.compress("日本".encode()))
        chunks += png_chunk(b"zTXt", b"Title\0\0" + zlib.compress("Zoë".encode("latin-1")))
        write_png(tmp_path / "x.png", smooth(np.uint8, 3), chunks)
        photo = read_photo(tmp_path / "x.png")
        assert photo.texts == texts
        write_photo(photo, tmp_path / "y.png")
        assert read_photo(tmp_path / "y.png").texts == texts
        with Image.open(tmp_path / "y.png") as image:
            assert {k: str(v) for k, v in image.text.items()} == dict(texts)
        said = not_kept(photo, tmp_path / "y.jpg")
        assert "Author, Description, Title" in said[0]

    @pytest.mark.parametrize("kind", ["EXIF", "XMP"])
    def test_metadata_behind_the_pixels_are_read(self, tmp_path, kind):
        write_png(tmp_path / "x.png", smooth(np.uint8, 3))
        content = (tmp_path / "x.png").read_bytes()
        packet = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP
        late = {"EXIF": png_chunk(b"eXIf", exif_block(6)), "XMP": png_chunk(b"iTXt", packet)}[kind]
        (tmp_path / "x.png").write_bytes(content[:-12] + late + content[-12:])
        photo = read_photo(tmp_path / "x.png")
        if kind == "EXIF":
            assert photo.exif == exif_block(6) and photo.orientation == 6
        else:
            assert photo.xmp == XMP

    def test_a_resolution_without_a_unit_is_none(self, tmp_path):
        for unit, dpi in ((0, None), (1, pytest.approx((72, 72), abs=0.1))):
            resolution = png_chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, unit))
            write_png(tmp_path / "x.png", smooth(np.uint8, 3), resolution)
            assert read_photo(tmp_path / "x.png").dpi == dpi

    def test_an_animation_beside_the_picture_is_said(self, tmp_path):
        picture = Image.fromarray(smooth(np.uint8, 3))
        others = [picture.rotate(180)]
        picture.save(tmp_path / "x.png", save_all=True, default_image=True, append_images=others)
        assert read_photo(tmp_path / "x.png").notes == ("only the first of 2 frames is kept",)

    def test_further_frames_are_said(self, tmp_path):
        frames = [Image.fromarray(smooth(np.uint8, 3))] * 2 + [Image.new("RGB", (56, 40))]
        frames[0].save(tmp_path / "x.png", save_all=True, append_images=frames[1:])
        photo = read_photo(tmp_path / "x.png")
        assert "the first of" in photo.notes[0]
        assert np.array_equal(photo.pixels, smooth(np.uint8, 3))

    @pytest.mark.parametrize("transfer", [16, 18])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_hdr_is_told_behind_any_profile(self, tmp_path, transfer, channels):
        large = PROFILES["ProPhoto"] + np.random.default_rng(0).bytes(60_000)
        chunks = png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(large))
        chunks += png_chunk(b"cICP", bytes((9, transfer, 0, 1)))
        write_png(tmp_path / "x.png", smooth(np.uint16, channels), chunks)
        with pytest.raises(PhotoError, match="HDR"):
            read_photo(tmp_path / "x.png")

    def test_grey_has_its_gamma(self, tmp_path):
        write_png(
            tmp_path / "x.png", smooth(np.uint8, 1), png_chunk(b"gAMA", struct.pack(">I", 100000))
        )
        photo = read_photo(tmp_path / "x.png")
        assert colour.is_linear(photo.icc) and colour.suits(photo.icc, 1)

    def test_a_broken_profile_is_said(self, tmp_path):
        chunk = png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"no profile" * 30))
        write_png(tmp_path / "x.png", smooth(np.uint8, 3), chunk)
        photo = read_photo(tmp_path / "x.png")
        assert photo.icc is None and "colour profile is damaged" in photo.notes[0]


def test_a_monochrome_dng_gets_a_grey_profile(tmp_path):
    grey = (np.linspace(0.1, 0.8, 64 * 48).reshape(48, 64) * 60000).astype("<u2")
    content = bayer_dng(grey)
    tree = ifd.read_tree(content)
    for tag in (33421, 33422, 50721, 50728):
        del tree[tag]
    tree[262] = ifd.Entry(type=3, count=1, value=struct.pack("<H", 34892))
    tree[50714] = ifd.Entry(type=3, count=1, value=struct.pack("<H", 0))
    tree[50717] = ifd.Entry(type=3, count=1, value=struct.pack("<H", 65535))
    path = Path(tmp_path / "x.dng")
    path.write_bytes(ifd.append_tree(content, tree))
    for development in ("camera", "linear"):
        photo = read_photo(path, RawOptions(development=development))
        assert photo.pixels.shape[2] == 1 and photo.notes == ()
        assert colour.suits(photo.icc, 1)
        assert colour.is_linear(photo.icc) == (development == "linear")
        write_photo(replace(photo, bits=8), tmp_path / "y.jpg")
        assert read_photo(tmp_path / "y.jpg").icc == photo.icc


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("crop", [None, "8,4,24,16"])
@pytest.mark.parametrize(
    ("source", "orientation"),
    [
        *((".png", 1), (".png", 6), (".tif", 8)),
        *(pytest.param(suffix, 6, marks=pytest.mark.slow) for suffix in (".jpg", ".webp", ".avif")),
    ],
)
def test_exiftool_finds_one_story_in_every_format(
    amsnet, tiny_model, tmp_path, source, orientation, crop
):
    """Sizes, orientation and thumbnails of EXIF and XMP, against the pixels as others see them."""
    write_photo(stored(orientation), tmp_path / f"x{source}")
    upright_size = (40, 64) if orientation >= 5 else (64, 40)
    orientation = 1 if source == ".avif" else orientation
    had_thumbnail = source not in (".tif", ".avif")
    call = ["denoise", tmp_path / f"x{source}", "-w", tiny_model, "--strength", 0, "--force"]
    for suffix in SUFFIXES:
        out = tmp_path / f"y{suffix}"
        result = amsnet(*call, "-o", out, *(["--crop", crop] if crop else []))
        assert result.exit_code == 0, result.stderr
        found = json.loads(
            subprocess.run(
                ["exiftool", "-j", "-n", "-G1", "-a", str(out)],
                capture_output=True, check=True, text=True,
            ).stdout
        )[0]  # fmt: skip
        with Image.open(out) as image:
            shown = ImageOps.exif_transpose(image).size  # Pillow turns TIFF by itself.
            width, height = image.size
        if suffix == ".tif":
            width, height = found["IFD0:ImageWidth"], found["IFD0:ImageHeight"]
        assert shown == ((24, 16) if crop else upright_size)
        turned = found.get("IFD0:Orientation", 1)
        assert turned == (1 if suffix == ".avif" else orientation)
        assert found["XMP-tiff:Orientation"] == turned
        assert (found["XMP-tiff:ImageWidth"], found["XMP-tiff:ImageHeight"]) == (width, height)
        exif_size = (found["ExifIFD:ExifImageWidth"], found["ExifIFD:ExifImageHeight"])
        assert exif_size == (width, height) and found["XMP-tiff:Artist"] == "Somebody"
        assert ("IFD1:ThumbnailOffset" in found) == (
            had_thumbnail and crop is None and suffix != ".tif" and turned == orientation
        )
        assert any(key.startswith("XMP-GPano") for key in found) == (crop is None and width == 64)
        complaints = {text for key, text in found.items() if key.endswith((":Warning", ":Error"))}
        assert complaints <= {"[minor] Bad MakerNotes directory"}, "the note made up for tests"


def canon_exif(order: str) -> bytes:
    """A block with a maker note as Canon's: its places are counted from the block's beginning."""
    texts = {6: b"Canon EOS 6D".ljust(32, b"\0"), 9: b"Somebody".ljust(32, b"\0")}

    def note(place: int) -> bytes:
        values = place + 2 + 12 * len(texts) + 4
        entries = b"".join(
            struct.pack(order + "HHII", tag, 2, 32, values + 32 * number)
            for number, tag in enumerate(texts)
        )
        return struct.pack(order + "H", len(texts)) + entries + bytes(4) + b"".join(texts.values())

    def block(value: bytes) -> bytes:
        entry = ifd.Entry(type=7, count=len(value), value=value)
        below: ifd.Directory = {exif.MAKER_NOTE: entry}
        tree: ifd.Directory = {
            271: ifd.Entry(type=2, count=6, value=b"Canon\0"),
            272: ifd.Entry(type=2, count=13, value=b"Canon EOS 6D\0"),
            ifd.EXIF_IFD: below,
        }
        made = exif.make_block(tree, order)
        assert made is not None
        return made

    blank = b"\xab" * len(note(0))
    return block(note(block(blank).index(blank)))


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_maker_notes_point_to_stays_in_its_place(tmp_path, suffix, order):
    write_photo(replace(stored(1), exif=canon_exif(order)), tmp_path / f"x{suffix}")
    for between in SUFFIXES:  # from each format into each
        write_photo(read_photo(tmp_path / f"x{suffix}"), tmp_path / f"y{between}")
        found = subprocess.run(
            ["exiftool", "-s3", "-OwnerName", "-CanonImageType", str(tmp_path / f"y{between}")],
            capture_output=True, check=True, text=True,
        ).stdout.split("\n")[:2]  # fmt: skip
        assert found == ["Somebody", "Canon EOS 6D"], (suffix, between)


def test_maker_notes_far_into_a_tiff_move_and_that_is_said(tmp_path):
    photo = replace(stored(1), exif=canon_exif("<"))
    write_photo(photo, tmp_path / "x.tif")
    content = (tmp_path / "x.tif").read_bytes()
    tree = ifd.read_tree(content)
    (tmp_path / "x.tif").write_bytes(ifd.append_tree(content + bytes(40_000), tree))
    after = read_photo(tmp_path / "x.tif")
    assert any("maker notes" in note for note in after.notes)
    assert np.array_equal(after.pixels, photo.pixels)
