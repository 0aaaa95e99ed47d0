from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amsnet_cli.inference.tiles import Tile, plan_tiles, run_in_bands, run_tiled

plans = given(
    st.integers(1, 150), st.integers(1, 150), st.integers(8, 120), st.integers(0, 40),
    st.sampled_from([1, 8, 16, 40]),
)  # fmt: skip


@plans
def test_identity_comes_back_exactly(h, w, tile, overlap, align):
    x = torch.rand(1, 3, h, w)
    assert torch.equal(
        run_tiled(lambda t: t.of(x), plan_tiles((h, w), tile, overlap, align), (h, w)), x
    )


@plans
def test_tiles_are_aligned_overlap_enough_and_are_no_larger_than_asked(h, w, tile, overlap, align):
    tiles = plan_tiles((h, w), tile, overlap, align)
    covered = torch.zeros(h, w)
    for t in tiles:
        assert t.top % align == 0 and t.left % align == 0
        limit = max(tile, -(-overlap // align) * align + align)
        assert t.bottom - t.top <= limit and t.right - t.left <= limit
        t.of(covered).add_(1)
    assert covered.min() >= 1
    rows = sorted({(t.top, t.bottom) for t in tiles})
    for (_, bottom), (top, _) in pairwise(rows):
        assert bottom - top >= overlap


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_blending_is_a_gentle_ramp(seed):
    """Tiles that disagree by one never jump by more than the ramp's step in the picture."""
    steps = torch.rand(100, generator=torch.Generator().manual_seed(seed))
    tiles = plan_tiles((200, 200), 80, 32, 8)
    levels = {t: float(steps[i]) for i, t in enumerate(tiles)}
    out = run_tiled(
        lambda t: torch.full((1, 1, *t.of(torch.zeros(200, 200)).shape), levels[t]),
        tiles,
        (200, 200),
    )
    assert out.diff(dim=-1).abs().max() <= 1 / 16 + 1e-6
    assert out.diff(dim=-2).abs().max() <= 1 / 16 + 1e-6


@plans
def test_what_a_tile_makes_of_its_own_edges_does_not_count(h, w, tile, overlap, align):
    x = torch.rand(1, 1, h, w)
    margin = overlap // 4

    def wrong_at_edges(t: Tile) -> torch.Tensor:
        part = t.of(x).clone()
        if t.top:
            part[..., :margin, :] = 9
        if t.left:
            part[..., :margin] = 9
        if t.bottom < h:
            part[..., part.shape[-2] - margin :, :] = 9
        if t.right < w:
            part[..., part.shape[-1] - margin :] = 9
        return part

    assert torch.equal(
        run_tiled(wrong_at_edges, plan_tiles((h, w), tile, overlap, align), (h, w)), x
    )


@plans
def test_bands_come_from_the_top_down_without_a_gap(h, w, tile, overlap, align):
    x = torch.rand(1, 3, h, w)
    done = 0
    for top, band in run_in_bands(lambda t: t.of(x), plan_tiles((h, w), tile, overlap, align)):
        assert top == done
        done += band.shape[-2]
        assert torch.equal(band, x[..., top:done, :])
    assert done == h


def test_a_small_picture_is_one_tile():
    assert plan_tiles((5, 7), 100, 16, 8) == [Tile(top=0, bottom=5, left=0, right=7)]


def test_no_tiles_is_an_error():
    with pytest.raises(ValueError, match="no tiles"):
        run_tiled(lambda t: torch.zeros(1), [], (1, 1))
