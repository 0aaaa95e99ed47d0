from __future__ import annotations

import sys
import zipfile

import cv2
import numpy as np
import pytest
import skimage.data

from training import textures
from training.raw import SensorPatches


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A package with a PNG, a small JPEG and a large one, in Debian's order of folders."""
    bricks = cv2.cvtColor(skimage.data.brick(), cv2.COLOR_GRAY2BGR)  # 512 x 512
    pictures = {
        "textures/tex_a/wall.png": bricks, "textures/tex_a/floor.jpg": bricks[:256],
        "textures/tex_b/wall.jpg": np.tile(bricks, (2, 2, 1)),
    }  # fmt: skip
    path = tmp_path / "a.pk3"
    with zipfile.ZipFile(path, "w") as file:
        for name, picture in pictures.items():
            file.writestr(name, cv2.imencode(name[-4:], picture)[1].tobytes())
        file.writestr("textures/tex_a/wall_nm.png", b"a map of normals, not listed")
    names = tmp_path / "names.txt"
    names.write_text("\n".join(pictures))
    monkeypatch.setattr(textures, "LIST", names)
    return path, bricks


def test_listed_textures_become_clean_photos(archive, tmp_path, monkeypatch):
    path, bricks = archive
    folder = tmp_path / "photos"
    monkeypatch.setattr(sys, "argv", ["textures", str(path), str(folder)])
    textures.main()
    photos = {p.name: cv2.imread(str(p)) for p in folder.iterdir()}
    assert {name: photo.shape[:2] for name, photo in photos.items()} == {
        "tex_a-wall.png": (512, 512), "tex_a-floor.png": (700, 700), "tex_b-wall.png": (512, 512),
    }  # fmt: skip
    assert np.array_equal(photos["tex_a-wall.png"], bricks)
    # Mirrored at its edges, so it has no seams.
    floor = photos["tex_a-floor.png"].astype(int)
    assert np.array_equal(floor[169], floor[170]) and np.array_equal(floor[:, 340], floor[:, 341])

    batch = SensorPatches(folder, patch=64, batch=2, seed=0).draw(0)
    assert batch.target.shape == (2, 1, 64, 64)


def test_every_listed_texture_is_listed_once():
    names = textures.LIST.read_text("utf-8").split()
    assert len(set(names)) == len(names) == 154
