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

from amsnet_cli.postprocess.block_stats import BlockStats, split

FAINT = (1 / 255, 2 / 255)
"""Standard deviations, of brightness and colour, of which half stays."""
AROUND = 2
"""Cells in each direction that are looked at together."""


def smoothing_weights(measured: BlockStats) -> Tensor:
    """Tell how smooth the denoised picture is to become; for `smooth_residual_noise`.

    Args:
        measured: of the whole picture.

    Returns:
        (3 + C, h, w) by cells: the share that is kept of brightness and colour, and what takes the
        place of the rest, for brightness and each channel's colour.
    """
    planes = [p[None] for p in (measured.brightness, *measured.colour)]  # one at a time, for memory
    powers = [_averaged(_repeated(plane)).square() for plane in planes]
    powers = [powers[0], torch.stack(powers[1:]).mean(0)]
    kept = []
    for squares, power, faint in zip(measured.squares, powers, FAINT, strict=True):
        variance = (_averaged(_repeated(squares[None])) - power).clamp_min(0)
        kept.append(variance / (variance + faint**2))
    gone = [1 - kept[0], *(1 - kept[1] for _ in measured.colour)]
    places = [
        _averaged(_repeated(share) * _continued(_averaged(_continued(plane))))
        for share, plane in zip(gone, planes, strict=True)
    ]
    return torch.cat([*(_averaged(_repeated(share)) for share in kept), *places])


def smooth_residual_noise(denoised: Tensor, smoothing: Tensor) -> Tensor:
    """Smooth what is hardly there; edges and texture stay.

    Args:
        denoised: (C, H, W) float32.
        smoothing: (3 + C, H, W), from `smoothing_weights` by `postprocess.blocks.upsample_blocks`.

    Returns:
        (C, H, W).
    """
    brightness, colour = split(denoised)
    kept, level = smoothing[:2], smoothing[2:]
    return kept[:1] * brightness + level[:1] + kept[1:] * colour + level[1:]


def _averaged(padded: Tensor) -> Tensor:
    """Average over the cells around each; (N, h + 2 * AROUND, w + 2 * AROUND) to (N, h, w)."""
    return F.avg_pool2d(padded, 2 * AROUND + 1, stride=1)


def _repeated(cells: Tensor) -> Tensor:
    """Go beyond the edges of (N, h, w) with what lies there."""
    return F.pad(cells[None], (AROUND,) * 4, mode="replicate")[0]


def _continued(cells: Tensor) -> Tensor:
    """Go beyond the edges as cells came: else shading would look like that further inside."""
    if min(cells.shape[1:]) <= AROUND:
        return _repeated(cells)
    return 2 * _repeated(cells) - F.pad(cells[None], (AROUND,) * 4, mode="reflect")[0]
