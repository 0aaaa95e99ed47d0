"""The examples of docs/instruments.md run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile

PAGE = Path(__file__).parents[1] / "docs" / "instruments.md"


def run_example(title: str, amsnet) -> dict[str, object]:
    """Run the code below a title; returns the names that its Python code has bound."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    names: dict[str, object] = {}
    for kind, code in re.findall(r"```(python|sh)\n(.*?)```", section, re.DOTALL):
        if kind == "python":
            exec(code, names)
            continue
        for line in code.splitlines():
            program, *arguments = shlex.split(line)
            done = amsnet(*arguments)
            assert program == "amsnet"
            assert done.exit_code == 0, done.stderr
    return names


def error(picture: np.ndarray, clean: np.ndarray) -> float:
    return float(np.square(picture.astype(float) - clean).mean())


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_fluorescence_stack(amsnet):
    light = run_example("A fluorescence stack", amsnet)["light"]
    noisy, clean = tifffile.imread("cells.tif"), tifffile.imread("cells_clean.tif")
    expected = 100 + 2 * np.stack([[light, light[::-1]]] * 3)
    assert error(clean, expected) < error(noisy, expected) / 8
    assert tifffile.imread("cells_some.tif").shape == (2, *noisy.shape[1:])
    with tifffile.TiffFile("cells_some.tif") as file:
        assert file.imagej_metadata["finterval"] == 60
        assert file.pages[0].tags["XResolution"].value == (10, 1)


def test_electron_micrograph(amsnet):
    expected = run_example("An electron micrograph", amsnet)["clean"]
    noisy, clean = tifffile.imread("membranes.tif"), tifffile.imread("membranes_clean.tif")
    assert error(clean, expected) < error(noisy, expected) / 6


def test_star_field(amsnet):
    fits = pytest.importorskip("astropy.io.fits", reason="the fits extra is not installed")
    expected = run_example("A star field", amsnet)["sky"] / 1.8
    noisy, clean = fits.getdata("stars.fits"), fits.getdata("stars_clean.fits")
    sky = expected < 800 / 1.8 + 0.1
    assert clean[sky].std() < noisy[sky].std() / 4
    assert fits.getheader("stars_clean.fits")["OBJECT"] == "made up"
    stars = ~sky
    assert abs(clean[stars].sum() / noisy[stars].sum() - 1) < 0.002
