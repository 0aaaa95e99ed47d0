"""Large pages are cut into blocks, which overlap where they are denoised."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from amsnet_cli.stacks import block
from amsnet_cli.stacks.block import HALO, LONGEST_SIDE, blocks_of, slabs
from amsnet_cli.stacks.find import open_stack
from amsnet_cli.stacks.stack import PageKind


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "LONGEST_SIDE", 160)
    monkeypatch.setattr(block, "_SLAB", 3000)


def kind(height: int, width: int, *more: int) -> PageKind:
    return PageKind(shape=(height, width, *more), dtype=np.dtype(np.uint16))


@given(st.integers(1, 3 * LONGEST_SIDE), st.integers(1, 3 * LONGEST_SIDE))
def test_blocks_hold_each_pixel_once_and_their_halos_are_inside(height, width):
    page = kind(height, width, 3)
    blocks = blocks_of(7, page)
    assert sum(b.bytes(page) for b in blocks) == page.bytes
    assert len(blocks) == -(-height // LONGEST_SIDE) * -(-width // LONGEST_SIDE)
    corners = {(b.top, b.left) for b in blocks}
    assert len(corners) == len(blocks)
    for b in blocks:
        around = b.with_halo(page)
        assert 0 <= around.top <= b.top < b.bottom <= around.bottom <= height
        assert 0 <= around.left <= b.left < b.right <= around.right <= width
        assert max(b.shape(page)[:2]) <= LONGEST_SIDE
        for near, far in ((b.top, around.top), (b.left, around.left)):
            assert near - far == min(near, HALO)


@pytest.mark.usefixtures("small_blocks")
def test_slabs_are_the_page():
    page = np.arange(700 * 9, dtype=np.uint16).reshape(700, 9)
    parts = list(slabs(page))
    assert len(parts) > 3 and np.array_equal(np.concatenate(parts), page)


def cells(shape: tuple[int, int]) -> np.ndarray:
    """Smooth light, (H, W), with blobs as large as cells."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return 60 + 40 * np.sin(x / 9) * np.sin(y / 13) + 0.1 * x


def write_one_page(folder: Path, suffix: str, values: np.ndarray) -> Path:
    path = folder / f"in{suffix}"
    if suffix == ".fits":
        fits = pytest.importorskip("astropy.io.fits")
        fits.writeto(path, values)
    elif suffix == ".zarr":
        zarr = pytest.importorskip("zarr")
        array = zarr.create_array(str(path), shape=values.shape, chunks=(64, 64), dtype="int16")
        array[:] = values
    else:
        compression = "deflate" if suffix == ".tiff" else None
        tifffile.imwrite(path, values, imagej=compression is None, compression=compression)
    return path


def pixels(path: Path) -> np.ndarray:
    stack = open_stack(path, counts=True)
    assert stack is not None
    return stack.read(0)


def denoise(amsnet, source: Path, target: Path, *more: str):
    done = amsnet("denoise", source, "-o", target, "--gain", "1", "--no-keep-flux", *more)
    assert done.exit_code == 0, done.stderr
    return done


@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".fits", ".zarr"])
def test_there_are_no_seams(amsnet, tmp_path, suffix, monkeypatch):
    """A page of 2 x 3 blocks."""
    clean = cells((250, 440))
    noisy = np.random.default_rng(0).poisson(clean).astype(np.int16)
    source = write_one_page(tmp_path, suffix, noisy)
    denoise(amsnet, source, tmp_path / f"whole{suffix}")
    monkeypatch.setattr(block, "LONGEST_SIDE", 160)
    denoise(amsnet, source, tmp_path / f"cut{suffix}")
    whole, cut = (pixels(tmp_path / f"{name}{suffix}").astype(float) for name in ("whole", "cut"))
    error = (whole - clean).std()
    assert error < 0.35 * (noisy - clean).std()
    assert (cut - clean).std() < 1.05 * error
    across = np.diff(cut - clean, axis=1)
    edges = sorted({b.left - 1 for b in blocks_of(0, kind(250, 440)) if b.left})
    assert len(edges) == 2
    assert across[:, edges].std() < 1.3 * across.std()


@pytest.mark.usefixtures("small_blocks")
def test_processes_share_a_page_and_give_the_same_bytes(amsnet, tmp_path):
    noisy = np.random.default_rng(0).poisson(cells((250, 440))).astype(np.int16)
    source = write_one_page(tmp_path, ".zarr", noisy)
    denoise(amsnet, source, tmp_path / "one.zarr")
    target = tmp_path / "two.zarr"
    said = denoise(amsnet, source, target, "--shard", "1/2", "--json")
    assert json.loads(said.stdout)["status"] == "waits"
    assert "3 of its 6 blocks are done as share 1/2" in said.stderr
    denoise(amsnet, source, target, "--shard", "2/2")
    assert np.array_equal(pixels(target), pixels(tmp_path / "one.zarr"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".fits", ".zarr"])
def test_a_part_of_a_page_is_a_part_of_it(tmp_path, suffix):
    values = np.arange(70 * 90, dtype=np.int16).reshape(70, 90)
    stack = open_stack(write_one_page(tmp_path, suffix, values), counts=True)
    assert stack is not None
    part = stack.read_part(0, slice(11, 50), slice(33, 90))
    assert np.array_equal(part, values[11:50, 33:]) and part.dtype == np.int16
