"""The pages of a stack, as a fit learns from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.errors import PhotoError
from amsnet_cli.inference.denoise_counts import unit_page
from amsnet_cli.inference.stack_noise import Detector, StackNoise, stack_noise
from amsnet_cli.stacks.stack import Stack

PAGE_SIDE = 1024
"""Side in pixels of the largest part of a page."""


def pages_to_learn(
    stack: Stack, max_pixels: int, seed: tuple[int, ...]
) -> list[NDArray[np.float32]]:
    """Draw grey pages, as a network sees them when it denoises them: of even noise, in [0, 1].

    Args:
        stack: the file.
        max_pixels: of all together, about; at least one page, or the largest part of it, is drawn.
        seed: of the pages drawn, and of the parts of large ones.

    Returns:
        (H, W, 3), three equal channels.

    Raises:
        PhotoError: it has no grey page without gaps whose noise can be measured.
    """
    rng = np.random.default_rng(seed)
    grey = [index for index, kind in enumerate(stack.pages) if len(kind.shape) == 2]
    noise: dict[tuple[int, ...], StackNoise] = {}
    drawn: list[NDArray[np.float32]] = []
    left = max_pixels
    for index in rng.permutation(grey).tolist():
        group = stack.pages[index].group
        if group not in noise:
            own = [i for i in grey if stack.pages[i].group == group]
            noise[group] = stack_noise(stack, own, Detector())
        law = noise[group].law
        unit = None if law is None else unit_page(stack.read(index), law)
        if unit is None or not np.isfinite(unit).all():
            continue
        top, left_edge = (int(rng.integers(max(1, side - PAGE_SIDE + 1))) for side in unit.shape)
        part = unit[top : top + PAGE_SIDE, left_edge : left_edge + PAGE_SIDE]
        drawn.append(np.broadcast_to(part[..., None], (*part.shape, 3)))
        left -= part.size
        if left <= 0:
            break
    if not drawn:
        raise PhotoError(f"{stack.path}: no page whose noise can be measured", "leave it out")
    return drawn
