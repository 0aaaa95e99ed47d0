"""Training images are read as far as they are of use, sampled by the seed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amsnet_cli.fitting import images as images_module
from amsnet_cli.fitting.images import CROP_SIZE, MAX_IMAGES, load_images, read_developed
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo


def many(tmp_path: Path, count: int, side: int = 8) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(count):
        Image.new("L", (side, side + i % 2), i % 256).save(folder / f"{i:03}.png")
    return folder


def test_a_large_folder_is_sampled(tmp_path):
    folder = many(tmp_path, MAX_IMAGES + 20)
    a, b = (load_images(folder, read_developed, max_pixels=10**6, seed=s) for s in (0, 1))
    assert len(a.paths) == MAX_IMAGES and a.found == MAX_IMAGES + 20
    assert a.paths == sorted(a.paths) != b.paths
    assert (
        a.fingerprint()
        == load_images(folder, read_developed, max_pixels=10**6, seed=0).fingerprint()
    )
    assert [w.image for w in a.crops] == list(range(MAX_IMAGES))


def test_a_small_folder_is_read_whole(tmp_path):
    folder = many(tmp_path, 40)
    images = load_images(folder, read_developed, max_pixels=40 * 8 * 9, seed=3)
    assert len(images.paths) == images.found == 40


def test_no_more_photos_than_pixels_are_kept_of(tmp_path):
    folder = many(tmp_path, 30, side=CROP_SIZE)
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))

    images = load_images(
        folder, read_developed, max_pixels=7 * CROP_SIZE**2, seed=0, on_progress=progress
    )
    assert len(images.paths) == len(images.crops) == 7
    assert seen[-1] == (7, 7) and [done for done, _ in seen] == list(range(1, 8))


def test_unreadable_photos_are_replaced_by_others(tmp_path):
    folder = many(tmp_path, 30, side=CROP_SIZE)
    for path in sorted(folder.iterdir())[::2]:
        path.write_bytes(b"no picture")
    images = load_images(folder, read_developed, max_pixels=7 * CROP_SIZE**2, seed=0)
    assert len(images.paths) == 7 and 0 < len(images.skipped) < 15
    assert list(images.skipped) == sorted(images.skipped)


def test_a_bug_in_reading_one_photo_is_named_and_the_others_are_read(tmp_path, monkeypatch):
    folder = many(tmp_path, 4)
    read = images_module.read_photo
    monkeypatch.setattr(
        images_module, "read_photo", lambda path: read(path) if path.name != "002.png" else 1 // 0
    )
    reported = []
    images = load_images(folder, read_developed, max_pixels=10**6, seed=0, on_skip=reported.append)
    assert [path.name for path in images.paths] == ["000.png", "001.png", "003.png"]
    assert reported == list(images.skipped)
    assert "002.png: a bug in amsnet: ZeroDivisionError" in reported[0]


@pytest.mark.parametrize("most", [1, 700, 10**9])
def test_files_hold_no_more_than_may_be_read(tmp_path, most):
    folder = many(tmp_path, 30)
    read = load_images(folder, read_developed, max_pixels=10**6, seed=0, max_file_bytes=most).paths
    sizes = [path.stat().st_size for path in folder.iterdir()]
    if most == 700:
        assert most - max(sizes) <= sum(p.stat().st_size for p in read) <= most
    else:
        assert len(read) == (1 if most == 1 else 30)


def test_readers_and_order_change_nothing(tmp_path, monkeypatch, noisy_crop):
    folder, turned = tmp_path / "a", tmp_path / "b"
    pictures = {f"{i}.png": np.roll(np.tile(noisy_crop, (5, 4, 1)), i, 0) for i in range(5)}
    for place, names in ((folder, sorted(pictures)), (turned, sorted(pictures, reverse=True))):
        place.mkdir()
        for name in names:
            write_photo(Photo(pixels=pictures[name]), place / name)
    found = set()
    for place, readers, at_once in ((folder, 1, 1), (folder, 8, 10**9), (turned, 3, 10**6)):
        monkeypatch.setattr(images_module, "_READERS", readers)
        monkeypatch.setattr(images_module, "_BYTES_AT_ONCE", at_once)
        found.add(load_images(place, read_developed, max_pixels=10**6, seed=0).fingerprint())
    assert len(found) == 1


def test_large_photos_are_kept_in_part(tmp_path, noisy_crop):
    folder = tmp_path / "large"
    folder.mkdir()
    write_photo(Photo(pixels=np.tile(noisy_crop, (5, 6, 1))), folder / "a.png")
    [*crops] = load_images(folder, read_developed, max_pixels=600_000, seed=0).crops
    assert [w.pixels.shape for w in crops] == [(512, 512, 3)] * 2
