from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from PIL import Image

from training import wallpapers


def test_listed_photos_are_reduced_by_what_is_listed(tmp_path, monkeypatch):
    clean = skimage.data.chelsea()  # 300 x 451
    (tmp_path / "in" / "b").mkdir(parents=True)
    Image.fromarray(clean).save(tmp_path / "in" / "b" / "cat.png")
    Image.fromarray(clean).save(tmp_path / "in" / "other.png")
    names = tmp_path / "names.txt"
    names.write_text("b/cat.png 2\n")
    monkeypatch.setattr(wallpapers, "LIST", names)
    arguments = ["wallpapers", tmp_path / "in", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", [*map(str, arguments)])
    wallpapers.main()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["cat.png"]
    reduced = cv2.imread(str(tmp_path / "out" / "cat.png"))[..., ::-1]
    means = clean[:, :450].reshape(150, 2, 225, 2, 3).mean((1, 3))
    assert reduced.shape == means.shape
    assert np.abs(reduced - means).max() <= 0.5


def test_every_listed_wallpaper_is_listed_once_and_reduced():
    lines = [line.split() for line in wallpapers.LIST.read_text("utf-8").splitlines()]
    names = [Path(name).stem for name, _ in lines]  # as they are written
    assert len(set(names)) == len(names) == 30
    assert all(int(divisor) >= 2 for _, divisor in lines)
