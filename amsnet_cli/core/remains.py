"""Remains: the faint noise that a network leaves where there is nothing else to see.

A network that is not told the strength of the noise hedges: of faint noise it takes some, and of
colour noise, which in photos is often coarser than the network can tell from shading, hardly any.
Where the denoised picture varies less than noise does, an edge-preserving smoother takes the rest:
the guided filter with the picture as its own guide (He, Sun and Tang, "Guided image filtering",
ECCV 2010), computed from means of cells (He and Sun, "Fast guided filter", 2015).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.core.fusion import Measured, split

FAINT = (1 / 255, 2 / 255)
"""Standard deviations, of brightness and colour, of which half stays."""
AROUND = 2
"""Cells in each direction that are looked at together."""


def smoothing(measured: Measured) -> Tensor:
    """Tell how smooth the denoised picture is to become; for `without_remains`.

    Args:
        measured: of the whole picture.

    Returns:
        (3 + C, h, w) by cells: the share that is kept of brightness and colour, and what takes the
        place of the rest, for brightness and each channel's colour.
    """
    brightness, colour = measured.brightness[None], measured.colour
    means = _around(torch.cat([brightness, colour]))
    power = torch.cat([means[:1].square(), means[1:].square().mean(0, keepdim=True)])
    variance = (_around(measured.squares) - power).clamp_min(0)
    kept = variance / (variance + variance.new_tensor(FAINT).square()[:, None, None])
    gone = 1 - torch.cat([kept[:1], kept[1:].expand_as(colour)])
    return _around(torch.cat([kept, gone * means]))


def without_remains(denoised: Tensor, smoothing: Tensor) -> Tensor:
    """Smooth what is hardly there; edges and texture stay.

    Args:
        denoised: (C, H, W) float32.
        smoothing: (3 + C, H, W), from `smoothing` by `core.cells.smoothed`.

    Returns:
        (C, H, W).
    """
    brightness, colour = split(denoised)
    kept, level = smoothing[:2], smoothing[2:]
    return kept[:1] * brightness + level[:1] + kept[1:] * colour + level[1:]


def _around(cells: Tensor) -> Tensor:
    """Average (N, h, w) over the cells around each, edges repeated."""
    padded = F.pad(cells[None], (AROUND,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * AROUND + 1, stride=1)[0]
