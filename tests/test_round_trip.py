"""What survives of a photo, as a table: `pytest -s -k fidelity` prints it.

The files are made by other programs' writers or by hand, go through the command line at
`--strength 0`, where pixels must come out as they went in, and are read by other readers.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import ExifTags, Image, ImageCms, ImageOps, IptcImagePlugin

from amsnet_cli.errors import OutputError, PhotoError
from amsnet_cli.photos import colour
from amsnet_cli.photos.colour_model import colour_model_of
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import write_photo
from tests.test_photos import MAKER_NOTE, XMP, exif_block

READ_ONLY = (".gif", ".psd", ".jp2", ".hdr")
"""They become TIFF."""
PIXELS_ONLY = (".bmp", ".ppm", ".pfm", ".exr")
"""They hold no EXIF."""
SIZE = (40, 56)
NOON = 1_600_000_000_123_456_789
IPTC = b"".join(
    struct.pack(">BBBH", 0x1C, 2, number, len(text)) + text
    for number, text in ((80, b"A. Photographer"), (120, b"A caption"))
)
PROFILES = {
    "Display P3": colour.matrix_profile("Display P3", colour.P3_D65, colour.SRGB_CURVE),
    "Adobe RGB": colour.matrix_profile(
        "Adobe RGB", (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), (563 / 256,)
    ),
    "ProPhoto": colour.matrix_profile(
        "ProPhoto",
        (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001),
        (1.8,),
    ),
}
# Its red curve as the curve of grey, under another colour space.
GREY_PROFILE = PROFILES["ProPhoto"].replace(b"RGB XYZ ", b"GRAYXYZ ").replace(b"rTRC", b"kTRC")


def smooth(dtype: type, channels: int) -> np.ndarray:
    """Colours that lossy formats hold well, over the whole range and, as float, beyond."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] / np.array(SIZE)[:, None, None]
    planes = [y, x, (x + y) / 2, 1 - 0.5 * x][:channels]
    if channels == 2:
        planes = [y, 1 - 0.5 * x]
    pixels = np.stack(planes, 2)
    if dtype == np.float32:
        return (pixels * 3 - 0.75).astype(dtype)
    return (pixels * np.iinfo(dtype).max).round().astype(dtype)


@dataclass
class Case:
    """A file to make, and what must be the same in the one that comes out."""

    name: str
    colour: str
    depth: str
    make: Callable[[Path], np.ndarray]
    pixels: str = "exact"
    survives: tuple[str, ...] = ()
    said: str = ""
    facts: dict[str, object] | None = None

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    body = kind + payload
    return struct.pack(">I", len(payload)) + body + struct.pack(">I", zlib.crc32(body))


def write_png(path: Path, pixels: np.ndarray, chunks: bytes = b"") -> np.ndarray:
    height, width, channels = pixels.shape
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, kind, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + chunks
        + png_chunk(b"IDAT", zlib.compress(data)) + png_chunk(b"IEND", b"")
    )  # fmt: skip
    return pixels


def read_png(path: Path) -> tuple[np.ndarray, dict[bytes, bytes]]:
    content, at, chunks = path.read_bytes(), 8, {}
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        payload = content[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + payload) == struct.unpack_from(">I", content, at + 8 + length)[0]
        chunks[kind] = chunks.get(kind, b"") + payload
        at += 12 + length
    width, height, bits, kind = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    channels, size = {0: 1, 4: 2, 2: 3, 6: 4}[kind], bits // 8
    step = channels * size
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    out = np.zeros((height, width * step), np.uint8)
    above = np.zeros(width * step, np.int64)
    for y, (method, *line) in enumerate(lines.tolist()):
        row = np.zeros(width * step, np.int64)
        for i, value in enumerate(line):
            left = row[i - step] if i >= step else 0
            corner = above[i - step] if i >= step else 0
            likely = left + above[i] - corner
            nearest = min((left, above[i], corner), key=lambda v, to=likely: abs(to - v))
            guess = (0, left, above[i], (left + above[i]) // 2, nearest)[method]
            row[i] = (value + guess) % 256
        out[y], above = row, row
    pixels = out.reshape(-1).view(">u2" if size == 2 else np.uint8)
    return pixels.reshape(height, width, channels), chunks


def png(dtype: type, channels: int) -> Callable[[Path], np.ndarray]:
    def make(path: Path) -> np.ndarray:
        icc = PROFILES["ProPhoto"] if channels > 2 else GREY_PROFILE
        raw_profile = f"\niptc\n{len(IPTC):8}\n{IPTC.hex()}\n".encode()
        chunks = (
            png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc))
            + png_chunk(b"eXIf", exif_block())
            + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
            + png_chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(raw_profile))
            + png_chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1))
        )
        return write_png(path, smooth(dtype, channels), chunks)

    return make


def jpeg(mode: str, **options: object) -> Callable[[Path], np.ndarray]:
    def make(path: Path) -> np.ndarray:
        pixels = smooth(np.uint8, len(mode))
        icc = GREY_PROFILE if mode == "L" else PROFILES["Display P3"]
        Image.fromarray(pixels.squeeze()).save(
            path, "JPEG", exif=b"Exif\0\0" + exif_block(), xmp=XMP, icc_profile=icc,
            dpi=(300, 300), **options,
        )  # fmt: skip
        resource = (
            b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + b"\0" * (len(IPTC) % 2)
        )
        payload = b"Photoshop 3.0\0" + resource
        content = path.read_bytes()
        assert content[2:4] == b"\xff\xe0", "JFIF"
        behind_jfif = 4 + struct.unpack_from(">H", content, 4)[0]
        segment = b"\xff\xed" + struct.pack(">H", len(payload) + 2) + payload
        path.write_bytes(content[:behind_jfif] + segment + content[behind_jfif:])
        return pixels

    return make


def tiff(dtype: type, channels: int, **options: object) -> Callable[[Path], np.ndarray]:
    def make(path: Path) -> np.ndarray:
        pixels = smooth(dtype, channels)
        icc = PROFILES["Adobe RGB"] if channels > 2 else GREY_PROFILE
        tifffile.imwrite(
            path, pixels.squeeze(), photometric="rgb" if channels > 2 else "minisblack",
            extrasamples=["unassalpha"] if channels in (2, 4) else None, planarconfig="contig",
            resolution=(300, 300), resolutionunit="inch", iccprofile=icc, metadata=None,
            software="Scanner 1.0", datetime="2020:01:02 03:04:05",
            extratags=[
                (271, 2, 0, "Canon", True), (316, 2, 0, "host", True), (274, 3, 1, 6, True),
                (700, 1, len(XMP), XMP, True), (33723, 7, len(IPTC), IPTC, True),
                (42112, 2, 0, "<GDALMetadata/>", True),
            ],
            **options,
        )  # fmt: skip
        return pixels

    return make


def tiff_with_exif(path: Path) -> np.ndarray:
    pixels = smooth(np.uint8, 3)
    exif = Image.Exif()
    exif.load(exif_block())
    exif[700], exif[33723] = XMP, IPTC
    Image.fromarray(pixels).save(
        path, "TIFF", exif=exif, dpi=(300, 300), icc_profile=PROFILES["ProPhoto"]
    )
    return pixels


def with_pillow(mode: str, **options: object) -> Callable[[Path], np.ndarray]:
    def make(path: Path) -> np.ndarray:
        pixels = smooth(np.uint8, len(mode))
        Image.fromarray(pixels.squeeze()).save(
            path, exif=b"Exif\0\0" + exif_block(), xmp=XMP,
            icc_profile=PROFILES["Display P3"] if len(mode) > 2 else None, **options,
        )  # fmt: skip
        return pixels

    return make


def palette(path: Path) -> np.ndarray:
    image = Image.fromarray(smooth(np.uint8, 3)).quantize(64)
    image.save(path)
    return np.asarray(image.convert("RGB"))


def cmyk_profile() -> bytes:
    made = pyvips.Image.black(1, 1, bands=3).copy(interpretation="srgb").icc_transform("cmyk")
    return bytes(made.get("icc-profile-data"))


def cmyk(path: Path) -> np.ndarray:
    profile = cmyk_profile()
    image = Image.fromarray((smooth(np.uint8, 4) * 0.6).astype(np.uint8), "CMYK")
    image.save(path, icc_profile=profile, **({"quality": 98} if path.suffix == ".jpg" else {}))
    srgb = ImageCms.createProfile("sRGB")
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    relative = ImageCms.Intent.RELATIVE_COLORIMETRIC
    rgb = ImageCms.profileToProfile(image, own, srgb, relative, outputMode="RGB")
    assert rgb is not None
    return np.asarray(rgb)


FULL = ("icc", "exif", "gps", "maker note", "xmp", "iptc", "dpi", "orientation", "time")
NO_IPTC = tuple(name for name in FULL if name not in ("iptc", "dpi"))
SCANNED = ("icc", "exif", "xmp", "iptc", "dpi", "orientation", "time", "other tags")
TURNED = tuple(name for name in NO_IPTC if name != "orientation")
GREY_AVIF = tuple(name for name in TURNED if name != "icc")

JPEGS = [
    ("RGB", "4:4:4 q98", {"quality": 98, "subsampling": "4:4:4"}),
    ("RGB", "4:2:2 q90", {"quality": 90, "subsampling": "4:2:2"}),
    ("RGB", "4:2:0 q75, scans", {"quality": 75, "subsampling": "4:2:0", "progressive": True}),
    ("L", "q100", {"quality": 100}),
]
MODES = (("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4))
WEBP = {"lossless": True, "exact": True}
CASES = [
    *(
        Case(f"jpeg{i}.jpg", f"{mode} {label}", "8", jpeg(mode, **how), "close", (*FULL, "coding"))
        for i, (mode, label, how) in enumerate(JPEGS)
    ),
    *(
        Case(f"png{bits}{mode}.png", mode, str(bits), png(dtype, channels), survives=FULL)
        for bits, dtype in ((8, np.uint8), (16, np.uint16))
        for mode, channels in MODES
    ),
    *(
        Case(f"tiff{bits}{mode}.tif", mode, bits, tiff(dtype, channels), pixels, SCANNED)
        for bits, dtype, pixels in (
            ("8", np.uint8, "exact"), ("16", np.uint16, "exact"), ("float", np.float32, "1e-6")
        )
        for mode, channels in MODES
    ),
    Case("motorola.tif", "RGB, MM", "16", tiff(np.uint16, 3, byteorder=">"), survives=SCANNED),
    Case("big.tif", "RGB BigTIFF", "16", tiff(np.uint16, 3, bigtiff=True), survives=SCANNED),
    Case("tiled.tif", "RGB tiled, deflate", "16",
         tiff(np.uint16, 3, tile=(16, 16), compression="zlib"), survives=SCANNED),
    Case("exif.tif", "RGB with EXIF", "8", tiff_with_exif, survives=FULL),
    Case("lossy.webp", "RGB", "8", with_pillow("RGB", quality=98), "close", NO_IPTC),
    Case("exact.webp", "RGBA lossless", "8", with_pillow("RGBA", **WEBP), survives=NO_IPTC),
    Case("rgb.avif", "RGB", "8", with_pillow("RGB", quality=98), "close", TURNED),
    Case("rgba.avif", "RGBA", "8", with_pillow("RGBA", quality=98), "close", TURNED),
    Case("grey.avif", "L", "8", with_pillow("L", quality=98), "close", GREY_AVIF),
    Case("palette.png", "palette", "8", palette, "exact", ("time",), "palette turned into RGB"),
    Case("cmyk.tif", "CMYK with profile", "8", cmyk, "close", ("time",), "CMYK turned into sRGB"),
    Case("cmyk.jpg", "CMYK with profile", "8", cmyk, "close", ("time",), "CMYK turned into sRGB"),
]  # fmt: skip


def pixels_of(path: Path) -> np.ndarray:
    if path.suffix == ".png":
        pixels = read_png(path)[0]
    elif path.suffix == ".tif":
        pixels = tifffile.imread(path)
    elif path.suffix == ".jxl":
        import imagecodecs

        pixels = imagecodecs.jpegxl_decode(path.read_bytes())
    elif path.suffix == ".exr":
        from tests.test_exr import read_by_hand

        planes = read_by_hand(path)
        pixels = np.stack([planes[name] for name in "RGB"], 2)
    elif path.suffix in (".ppm", ".pfm"):
        import cv2

        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1]
    else:
        with Image.open(path) as image:
            turned = ImageOps.exif_transpose(image) if path.suffix == ".avif" else image
            pixels = np.asarray(turned)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def facts_of(path: Path) -> dict[str, object]:
    """Read metadata with Pillow, tifffile and by hand."""
    facts: dict[str, object] = {"time": path.stat().st_mtime_ns}
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            tags = {tag.code: tag.value for tag in file.pages[0].tags}
        return facts | {
            "icc": tags.get(34675), "xmp": bytes(tags.get(700, b"")), "iptc": tags.get(33723),
            "orientation": int(tags.get(274, 1)), "dpi": np.divide(*tags.get(282, (1, 1))),
            "exif": tags.get(271), "software": tags.get(305),
            "gps": tags.get(34853, {}).get("GPSLatitude", ())[::2],  # numerators, over 1
            "maker note": tags.get(34665, {}).get("MakerNote"),
            "other tags": (tags.get(316), tags.get(42112), tags.get(306)),
        }  # fmt: skip
    if path.suffix == ".jxl":
        import pylibjxl

        _, stated = pylibjxl.decode(path.read_bytes(), metadata=True)
        return facts | facts_of_exif(stated.get("exif", b"II*\0\x08\0\0\0\0\0\0\0\0\0")) | {
            "icc": read_photo(path).icc, "xmp": stated.get("xmp")
        }  # fmt: skip
    if path.suffix == ".exr":
        import OpenEXR

        with OpenEXR.File(str(path)) as file:
            return facts | {"icc": read_photo(path).icc, "dpi": file.header()["xDensity"]}
    if path.suffix in (".pfm", ".hdr", ".jp2"):
        return facts
    with Image.open(path) as image:
        exif = image.getexif()
        facts |= {
            "icc": image.info.get("icc_profile"), "xmp": image.info.get("xmp"),
            "iptc": IptcImagePlugin.getiptcinfo(image),
            "orientation": exif.get(274, 1), "dpi": round(image.info.get("dpi", (0, 0))[0], 1),
            "exif": exif.get(271), "software": exif.get(305),
            "gps": exif.get_ifd(ExifTags.IFD.GPSInfo).get(2),
            "maker note": exif.get_ifd(ExifTags.IFD.Exif).get(37500),
        }  # fmt: skip
        if path.suffix == ".jpg":
            facts["coding"] = image.quantization, bool(image.info.get("progressive"))
    if path.suffix == ".png":
        chunks = read_png(path)[1] if path.name != "palette.png" else {}
        _, _, packed = chunks.get(b"zTXt", b"\0\0").partition(b"\0")
        text = zlib.decompress(packed[1:]).split() if len(packed) > 1 else []
        facts["iptc"] = bytes.fromhex(b"".join(text[2:]).decode())
        facts["xmp"] = chunks.get(b"iTXt", b"").removeprefix(b"XML:com.adobe.xmp\0\0\0\0\0")
    return facts


def facts_of_exif(block: bytes) -> dict[str, object]:
    exif = Image.Exif()
    exif.load(block)
    return {
        "orientation": exif.get(274, 1), "exif": exif.get(271), "software": exif.get(305),
        "gps": exif.get_ifd(ExifTags.IFD.GPSInfo).get(2),
        "maker note": exif.get_ifd(ExifTags.IFD.Exif).get(37500),
    }  # fmt: skip


def same_profile(profile: object, expected: object) -> bool:
    """Compare what profiles say; JPEG XL and OpenEXR hold that and no profile."""
    one, other = (colour_model_of(icc) for icc in (profile, expected))
    return one.curve == other.curve and np.allclose(
        one.chromaticities, other.chromaticities, atol=1e-4
    )


def check(case: Case, name: str, before: dict[str, object], after: dict[str, object]) -> None:
    if name == "coding":
        (fine, scans), (ours, our_scans) = before[name], after[name]
        luma = np.array(ours[0]) <= np.array(fine[0])
        chroma = np.array(ours.get(1, ours[0])) <= np.array(fine.get(1, fine[0]))
        assert luma.all() and chroma.all() and scans == our_scans, case
    elif name == "maker note":
        assert after[name] == MAKER_NOTE, case
    elif name == "icc" and case.suffix in (".jxl", ".exr"):
        assert same_profile(after[name], before[name]), case
    elif name == "gps" and case.suffix == ".psd":
        assert after[name] == (48, 8, 30), "degrees, minutes and seconds"
    else:
        assert before[name], (case, name)
        assert after[name] == before[name], (case, name)


def no_place(case: Case, name: str) -> str:
    """Say why a fact does not come through; empty where the file has none."""
    if case.suffix in (".webp", ".avif") and name in ("iptc", "dpi"):
        return "no place"
    if case.suffix in PIXELS_ONLY and name not in ("icc", "dpi", "time", "coding", "other tags"):
        return "no place"
    if case.suffix == ".jxl" and name in ("iptc", "dpi"):
        return "no place"
    return "turned" if case.suffix in (".avif", ".jxl") and name == "orientation" else ""


def print_table(amsnet, tiny_model, tmp_path, cases: list[Case]) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    made = {case.name: case.make(source / case.name) for case in cases}
    for case in cases:
        os.utime(source / case.name, ns=(NOON, NOON))
    before = {case.name: (source / case.name).read_bytes() for case in cases}
    result = amsnet(
        "denoise", *(source / case.name for case in cases), "-o", target, "-w", tiny_model,
        "--strength", 0, "--keep-time",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    columns = ["icc", "exif", "gps", "maker note", "xmp", "iptc", "dpi", "orientation", "time"]
    columns += ["coding", "other tags"]
    rows = [["file", "bits", "colour", "pixels", *columns]]
    for case in cases:
        old, new = source / case.name, target / case.name
        if case.suffix in READ_ONLY:
            new = new.with_suffix(".tif")
        assert old.read_bytes() == before[case.name], "the input is untouched"
        pixels = pixels_of(new)
        lossy = case.pixels == "close" and "CMYK" not in case.colour
        expected = pixels_of(old) if lossy else made[case.name]
        assert pixels.shape == expected.shape, case
        assert pixels.dtype.itemsize == expected.dtype.itemsize, case
        if pixels.dtype.kind == "f":
            error = np.abs(pixels - expected) / np.maximum(1, np.abs(expected))
            assert error.max() < float(case.pixels), case
        elif case.pixels == "exact":
            assert np.array_equal(pixels, expected), case
        else:
            assert np.abs(pixels.astype(int) - expected).mean() < 1.5, case
        facts, now = (case.facts or facts_of(old)), facts_of(new)
        facts["time"] = old.stat().st_mtime_ns
        for name in case.survives:
            check(case, name, facts, now)
        if case.suffix not in PIXELS_ONLY:
            assert now["software"].endswith("amsnet 0.1.0 (tiny, strength 0)"), case
            assert now["software"].startswith("Scanner 1.0; " * (case.survives == SCANNED)), case
        assert not case.said or f"{old}: {case.said}" in result.stderr
        kept = ["yes" if name in case.survives else no_place(case, name) for name in columns]
        rows.append([case.suffix[1:], case.depth, case.colour, case.pixels, *kept])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def test_round_trip(amsnet, tiny_model, tmp_path):
    print_table(amsnet, tiny_model, tmp_path, CASES)


def test_round_trip_of_formats_that_need_extras(amsnet, tiny_model, tmp_path):
    """Also of those whose files other packages make."""
    for package in ("imagecodecs", "pylibjxl", "OpenEXR", "psd_tools", "cv2"):
        pytest.importorskip(package, reason="an extra")
    print_table(amsnet, tiny_model, tmp_path, further_cases(tmp_path))


def further_cases(folder: Path) -> list[Case]:
    import cv2
    import imagecodecs
    import OpenEXR
    import pylibjxl
    from psd_tools.constants import Compression

    from tests import test_exr, test_psd

    def jxl(mode: str, **options: object) -> Callable[[Path], np.ndarray]:
        def make(path: Path) -> np.ndarray:
            pixels = smooth(np.uint8, len(mode))
            path.write_bytes(pylibjxl.encode(
                pixels, icc=PROFILES["Display P3"], exif=exif_block(1), xmp=XMP, **options
            ))  # fmt: skip
            return pixels

        return make

    def bare_jxl(dtype: type) -> Callable[[Path], np.ndarray]:
        def make(path: Path) -> np.ndarray:
            path.write_bytes(imagecodecs.jpegxl_encode(smooth(dtype, 3), lossless=True))
            return smooth(dtype, 3)

        return make

    def exr(dtype: type) -> Callable[[Path], np.ndarray]:
        def make(path: Path) -> np.ndarray:
            pixels = smooth(np.float32, 3).astype(dtype)
            test_exr.save(path, {"RGB": pixels}, xDensity=300.0,
                          compression=OpenEXR.PIZ_COMPRESSION)  # fmt: skip
            return pixels.astype(np.float32)

        return make

    def psd(path: Path) -> np.ndarray:
        pixels = smooth(np.uint16, 3)
        path.write_bytes(test_psd.psd(pixels, Compression.RLE, resources=test_psd.RESOURCES))
        return pixels

    def jp2(dtype: type) -> Callable[[Path], np.ndarray]:
        def make(path: Path) -> np.ndarray:
            path.write_bytes(imagecodecs.jpeg2k_encode(smooth(dtype, 3), codecformat="jp2"))
            return smooth(dtype, 3)

        return make

    def hdr(path: Path) -> np.ndarray:
        cv2.imwrite(str(path), np.abs(smooth(np.float32, 3))[..., ::-1])
        return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1]

    def plain(path: Path) -> np.ndarray:
        dtype = {".pfm": np.float32, ".ppm": np.uint16}.get(path.suffix, np.uint8)
        pixels = np.abs(smooth(dtype, 3))
        cv2.imwrite(str(path), pixels[..., ::-1])
        return pixels

    jpeg("RGB", quality=95)(folder / "same.jpg")
    same = facts_of(folder / "same.jpg") | {"iptc": IPTC}
    boxes = ("icc", "exif", "gps", "maker note", "xmp", "time")
    return [
        Case("lossless.jxl", "RGB lossless", "8", jxl("RGB", lossless=True), survives=boxes),
        Case("rgba.jxl", "RGBA lossless", "8", jxl("RGBA", lossless=True), survives=boxes),
        Case("lossy.jxl", "RGB", "8", jxl("RGB", distance=0.5), "close", boxes),
        Case("deep.jxl", "RGB lossless", "16", bare_jxl(np.uint16), survives=("time",)),
        Case("float.jxl", "RGB lossless", "float", bare_jxl(np.float32), "2e-6", ("time",)),
        Case("half.exr", "RGB", "half", exr(np.float16), "2e-6", ("icc", "dpi", "time")),
        Case("float.exr", "RGB", "float", exr(np.float32), "2e-6", ("icc", "dpi", "time")),
        Case("layers.psd", "RGB", "16", psd, "exact", FULL, facts=same),
        Case("a.jp2", "RGB", "8", jp2(np.uint8), survives=("time",)),
        Case("b.jp2", "RGB", "16", jp2(np.uint16), survives=("time",)),
        Case("light.hdr", "RGB", "float", hdr, "2e-6", ("time",)),
        Case("plain.bmp", "RGB", "8", plain, survives=("time",)),
        Case("plain.ppm", "RGB", "16", plain, survives=("time",)),
        Case("plain.pfm", "RGB", "float", plain, "1e-6", survives=("time",)),
        Case("colours.gif", "palette", "8", palette, "exact", ("time",), "palette turned into RGB"),
    ]


FORMATS = (".jpg", ".png", ".tif", ".webp", ".avif")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_camera_s_jpeg_tells_the_same_in_every_format(amsnet, tiny_model, tmp_path, suffix):
    source, target = tmp_path / "x.jpg", tmp_path / f"y{suffix}"
    jpeg("RGB", quality=95)(source)
    result = amsnet("denoise", source, "-o", target, "-w", tiny_model, "--strength", 0)
    assert result.exit_code == 0, result.stderr
    before, after = facts_of(source), facts_of(target)
    turned = suffix == ".avif"
    assert after["orientation"] == (1 if turned else 6)
    for name in ("icc", "xmp", "exif"):
        assert after[name] == before[name], name
    assert after["maker note"] == MAKER_NOTE
    assert np.allclose(np.ravel(after["gps"])[[0, -1]], (48, 30)), "degrees and seconds"
    if suffix in (".webp", ".avif"):
        assert "no place for its IPTC record" in result.stderr
    elif suffix == ".tif":
        assert after["iptc"] == IPTC
    pixels, expected = pixels_of(target), pixels_of(source)
    expected = np.rot90(expected, -1) if turned else expected
    assert np.abs(pixels.astype(int) - expected).mean() < 1.5


@pytest.mark.parametrize("suffix", FORMATS)
def test_stripped_photos_tell_nothing_but_colours_and_which_way_is_up(
    amsnet, tiny_model, tmp_path, suffix
):
    source, target = tmp_path / "x.jpg", tmp_path / f"y{suffix}"
    jpeg("RGB", quality=95)(source)
    call = ["denoise", source, "-o", target, "-w", tiny_model, "--strip-metadata"]
    assert amsnet(*call).exit_code == 0
    facts = facts_of(target)
    assert not any(facts[n] for n in ("exif", "gps", "maker note", "xmp", "iptc", "software"))
    assert facts["icc"] == PROFILES["Display P3"]
    assert facts["orientation"] == (1 if suffix == ".avif" else 6)
    content = target.read_bytes()
    assert not any(secret in content for secret in (b"Canon", b"Photographer", b"amsnet"))


def test_float_and_16_bits_are_written_on_request(amsnet, tiny_model, tmp_path):
    png(np.uint8, 3)(tmp_path / "x.png")
    for depth, dtype in ((8, np.uint8), (16, np.uint16), (32, np.float32)):
        target = tmp_path / f"{depth}.tif"
        call = ["denoise", tmp_path / "x.png", "-o", target, "-w", tiny_model, "--strength", 0]
        result = amsnet(*call, "--depth", depth)
        assert result.exit_code == 0 and f"{depth} bit" in result.stderr
        pixels = tifffile.imread(target)
        assert pixels.dtype == dtype
        largest = 1 if depth == 32 else np.iinfo(dtype).max
        assert np.abs(pixels / largest - smooth(np.uint8, 3) / 255).max() < 1e-5


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"photometric": "rgb", "planarconfig": "separate"}, lambda x: x.transpose(2, 0, 1)),
        ({"photometric": "miniswhite"}, lambda x: 255 - x[..., 0]),
        ({"photometric": "rgb", "compression": "zlib", "predictor": True}, lambda x: x),
    ],
)
def test_tiffs_of_other_layouts_are_read_right(tmp_path, options, change):
    pixels = smooth(np.uint8, 3)
    tifffile.imwrite(tmp_path / "x.tif", change(pixels).copy(), **options)
    read = read_photo(tmp_path / "x.tif").pixels
    assert np.array_equal(read, pixels[..., : read.shape[2]])


def test_tiffs_of_other_colours_are_read_right_or_refused(tmp_path):
    path, image = tmp_path / "x.tif", Image.fromarray(smooth(np.uint8, 3))
    image.quantize(16).save(path)
    read = read_photo(path)
    assert np.array_equal(read.pixels, np.asarray(image.quantize(16).convert("RGB")))
    assert "palette" in read.notes[0]
    for mode in ("YCbCr", "LAB"):
        image.convert(mode).save(path)
        with pytest.raises(PhotoError, match=r"x\.tif"):
            read_photo(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_no_resolution_is_made_up(tmp_path, suffix):
    Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / f"x{suffix}")
    photo = read_photo(tmp_path / f"x{suffix}")
    assert photo.dpi is None
    write_photo(photo, tmp_path / f"y{suffix}")
    with Image.open(tmp_path / f"y{suffix}") as image:
        assert image.info.get("dpi", (1, 1)) == (1, 1)
        assert np.abs(np.asarray(image).astype(int) - photo.pixels).mean() < 1.5
    assert read_photo(tmp_path / f"y{suffix}").dpi is None


def test_a_gain_map_that_stays_behind_is_said(tmp_path):
    frames = [Image.new("RGB", (8, 8)), Image.new("L", (4, 4))]
    frames[0].save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=frames[1:])
    assert "gain map" in read_photo(tmp_path / "x.jpg").notes[0]


def test_what_webp_and_jpeg_cannot_hold_by_size(tmp_path):
    long = Photo(pixels=np.zeros((1, 16384, 3), np.uint8))
    with pytest.raises(OutputError, match="WebP holds 16383 pixels a side"):
        write_photo(long, tmp_path / "x.webp")
    write_photo(long, tmp_path / "x.avif")
    with pytest.raises(OutputError, match="JPEG holds 65500"):
        write_photo(replace(long, pixels=np.zeros((65501, 1, 3), np.uint8)), tmp_path / "x.jpg")


def write_heic(path: Path, pixels: np.ndarray) -> None:
    import pillow_heif

    mode = "RGB" if pixels.dtype == np.uint8 else "RGB;16"
    image = pillow_heif.from_bytes(mode, pixels.shape[1::-1], pixels.tobytes())
    image.save(
        path, quality=95, chroma=444, exif=b"Exif\0\0" + exif_block(1), xmp=XMP,
        icc_profile=PROFILES["Display P3"],
    )  # fmt: skip


class TestHeic:
    def test_without_the_extra_it_is_named(self, tmp_path, monkeypatch):
        (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(PhotoError, match=r'pip install "amsnet\[heic\]"'):
            read_photo(tmp_path / "x.heic")

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_with_it_all_comes_through(self, amsnet, tiny_model, tmp_path, dtype):
        pytest.importorskip("pillow_heif", reason="the heic extra is not installed")
        source = tmp_path / "IMG_1.HEIC"
        pixels = smooth(dtype, 3)
        write_heic(source, pixels)
        call = ["denoise", source, "-o", tmp_path / "out", "-w", tiny_model, "--strength", 0]
        assert amsnet(*call).exit_code == 0
        after = tifffile.imread(tmp_path / "out" / "IMG_1.tif")
        assert after.dtype == dtype and np.unique(after).size > (500 if dtype == np.uint16 else 100)
        assert np.abs(after.astype(int) - pixels).mean() < 0.02 * np.iinfo(dtype).max
        facts = facts_of(tmp_path / "out" / "IMG_1.tif")
        assert facts["maker note"] == MAKER_NOTE and facts["xmp"] == XMP
        assert facts["icc"] == PROFILES["Display P3"]
        source.write_bytes(source.read_bytes()[:-200])
        assert amsnet("denoise", source, "-o", tmp_path / "cut.tif").exit_code == 1
