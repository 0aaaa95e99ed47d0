"""Damaged JPEG files, against a strict walk through their Huffman codes."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.read import read_photo
from tests.pictures import noisy_scene
from tests.strict_jpeg import complaint_about
from tests.test_tiff import scene

KINDS = {
    "baseline": {"quality": 90},
    "restarts": {"quality": 90, "restart_marker_rows": 1},
    "full chroma": {"quality": 60, "subsampling": "4:4:4"},
    "progressive": {"quality": 90, "progressive": True},
}
MODES = ("RGB", "L", "CMYK")


def encoded(mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(scene()).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def damaged(content: bytes, seed: int) -> bytes:
    """Change, clear or drop some bytes of the coded blocks."""
    rng, out = random.Random(seed), bytearray(content)
    at = rng.randrange(content.index(b"\xff\xda") + 14, len(content) - 50)
    if seed % 3 == 0:
        out[at : at + 30] = rng.randbytes(30)
    elif seed % 3 == 1:
        out[at : at + 30] = bytes(30)
    else:
        del out[at : at + rng.randrange(1, 40)]
    return bytes(out)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_codes_tell_is_noticed(tmp_path, kind):
    """libjpeg's fast path takes codes that are none for 0, and overlong blocks as they are."""
    path, refused, overlooked = tmp_path / "x.jpg", 0, 0
    for mode in ("RGB", "L"):
        whole = encoded(mode, **KINDS[kind])
        path.write_bytes(whole)
        assert read_photo(path).notes == ()
        for seed in range(30):
            path.write_bytes(damaged(whole, seed))
            complaint = "" if kind == "progressive" else complaint_about(path.read_bytes())
            try:
                read_photo(path)
            except PhotoError as error:
                assert "x.jpg: the picture is damaged or cut short" in str(error)
                refused += 1
                assert complaint or kind == "progressive", "nobody refuses what may be whole"
            else:
                assert complaint in ("", "too many coefficients", "malformed: no such code"), seed
                overlooked += bool(complaint)
    assert refused > 20 and overlooked < 15, (refused, overlooked)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("rows", [1, 40, 90])
def test_a_cut_file_is_refused_and_a_missing_end_mark_is_not(tmp_path, rows, progressive):
    whole = encoded(quality=90, progressive=progressive)
    path = tmp_path / "x.jpg"
    path.write_bytes(whole[: -2 - rows])
    with pytest.raises(PhotoError, match="damaged or cut short"):
        read_photo(path)
    path.write_bytes(whole[:-2])
    photo = read_photo(path)
    assert photo.notes == ("the end mark of the file is missing, every pixel is there",)
    path.write_bytes(whole)
    assert np.array_equal(photo.pixels, read_photo(path).pixels)


@pytest.mark.parametrize("count", [10, 20, 25, 30, 40])
def test_an_end_of_zeros_is_damage(tmp_path, count):
    """Copies that were cut off leave zeros; in 25 of them libjpeg finds a block."""
    Image.fromarray(noisy_scene()).save(tmp_path / "x.jpg", quality=90)
    content = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(content[:-count] + bytes(count))
    with pytest.raises(PhotoError, match="damaged or cut short"):
        read_photo(tmp_path / "x.jpg")


@pytest.mark.parametrize("adobe", [False, True])
def test_whole_files_of_every_kind_pass(tmp_path, adobe):
    segment = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1"
    for name, options in KINDS.items():
        for mode in MODES[:2]:
            content = encoded(mode, **options)
            if adobe and mode == "RGB":
                content = content[:2] + segment + content[2:]
            (tmp_path / "x.jpg").write_bytes(content)
            assert read_photo(tmp_path / "x.jpg").notes == (), (name, mode)


def test_a_progressive_file_without_its_last_scans_is_refused(tmp_path):
    whole = encoded(quality=90, progressive=True)
    path = tmp_path / "x.jpg"
    scans = [at for at in range(len(whole)) if whole.startswith(b"\xff\xda", at)]
    for end in scans[1:]:
        for mark in (b"", b"\xff\xd9"):
            path.write_bytes(whole[:end] + mark)
            with pytest.raises(PhotoError, match="scans are missing|damaged or cut short"):
                read_photo(path)


def with_odd_scan(content: bytes) -> bytes:
    """Name another last coefficient, which says nothing in a baseline file."""
    at = content.index(b"\xff\xda") + 12
    return content[:at] + b"\x28" + content[at + 1 :]


def with_odd_version(content: bytes) -> bytes:
    at = content.index(b"JFIF\0") + 5
    return content[:at] + b"\x07" + content[at + 1 :]


def with_odd_colours(content: bytes) -> bytes:
    return content[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\7" + content[20:]


@pytest.mark.parametrize("odd", [with_odd_scan, with_odd_version, with_odd_colours])
def test_an_oddity_of_the_header_is_a_note_and_hides_no_damage(tmp_path, odd):
    whole, path = encoded(quality=90), tmp_path / "x.jpg"
    path.write_bytes(odd(whole))
    assert "libjpeg warns: " in read_photo(path).notes[0]
    refused = 0
    for seed in range(12):
        path.write_bytes(damaged(whole, seed))
        try:
            read_photo(path)
        except PhotoError:
            path.write_bytes(odd(damaged(whole, seed)))
            with pytest.raises(PhotoError, match="damaged or cut short"):
                read_photo(path)
            refused += 1
    assert refused > 2
