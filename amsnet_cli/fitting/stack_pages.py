"""The pages of a stack, as a fit learns from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.errors import PhotoError
from amsnet_cli.fitting.stack_views import is_still, scene_of
from amsnet_cli.inference.denoise_counts import unit_mean, unit_page
from amsnet_cli.inference.stack_noise import Detector, StackNoise, stack_noise
from amsnet_cli.stacks.block import Block, blocks_of
from amsnet_cli.stacks.stack import Page, Stack

PAGE_SIDE = 1024
"""Side in pixels of the largest part of a page."""


VIEWS = 8
"""Other frames of a scene that a page is compared with, at most."""


@dataclass(frozen=True, kw_only=True)
class SeenPage:
    """A page, or a part of it.

    Attributes:
        seen: (H, W, 3) float32 in [0, 1], three equal channels.
        views: the mean of other frames of the scene, likewise; None where it moves, or is alone.
        moves: whether there are others, in which something has moved.
    """

    seen: NDArray[np.float32]
    views: NDArray[np.float32] | None
    moves: bool


def pages_to_learn(stack: Stack, max_pixels: int, seed: tuple[int, ...]) -> list[SeenPage]:
    """Draw grey pages, as a network sees them when it denoises them: of even noise, in [0, 1].

    Args:
        stack: the file.
        max_pixels: of all together, about; at least one page, or the largest part of it, is drawn.
        seed: of the pages drawn, and of the parts of large ones.

    Raises:
        PhotoError: it has no grey page without gaps whose noise can be measured.
    """
    rng = np.random.default_rng(seed)
    grey = [index for index, kind in enumerate(stack.pages) if len(kind.shape) == 2]
    noise: dict[tuple[int, ...], StackNoise] = {}
    drawn: list[SeenPage] = []
    left = max_pixels
    for index in rng.permutation(grey).tolist():
        group = stack.pages[index].group
        if group not in noise:
            own = [i for i in grey if stack.pages[i].group == group]
            noise[group] = stack_noise(stack, own, Detector())
        law = noise[group].law
        blocks = blocks_of(index, stack.pages[index])
        block = blocks[int(rng.integers(len(blocks)))] if len(blocks) > 1 else blocks[0]
        page = block.read(stack)
        unit = None if law is None else unit_page(page, law)
        if law is None or unit is None or not np.isfinite(unit).all():
            continue
        others = _others(stack, block)
        still = bool(others) and is_still([page, *others], law)
        views = unit_mean(page, others, law) if still else None
        top, left_edge = (int(rng.integers(max(1, side - PAGE_SIDE + 1))) for side in unit.shape)
        place = slice(top, top + PAGE_SIDE), slice(left_edge, left_edge + PAGE_SIDE)
        drawn.append(
            SeenPage(
                seen=_coloured(unit[place]),
                views=None if views is None else _coloured(views[place]),
                moves=bool(others) and not still,
            )
        )
        left -= unit[place].size
        if left <= 0:
            break
    if not drawn:
        raise PhotoError(f"{stack.path}: no page whose noise can be measured", "leave it out")
    return drawn


def _others(stack: Stack, block: Block) -> list[Page]:
    """Read the same part of other frames of the scene, spread evenly."""
    others = [other for other in scene_of(stack, block.page) if other != block.page]
    count = min(VIEWS, len(others))
    chosen = [others[i * len(others) // count] for i in range(count)]
    return [replace(block, page=other).read(stack) for other in chosen]


def _coloured(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.broadcast_to(grey[..., None], (*grey.shape, 3))
