"""Resolution: a camera's photo is no finer than its noise.

A sensor sees one colour at each pixel, so a camera interpolates the rest, and whatever has gone
through that, light or noise, is shared by neighbouring pixels. A network that has learned from
photos of any sharpness still draws some edges as crisp as a pixel. Where noise says that the photo
was interpolated, a pixel that stands out from those around goes half of the way to their mean, by
half of what noise made neighbours differ at most: strong edges and the detail of nearly noiseless
photos stay, and white noise, as of photos that were made small, changes nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.postprocess.block_stats import BlockStats, quiet_correlation

WHITE, INTERPOLATED = 0.05, 0.2
"""Correlation of neighbouring pixels' noise up to which nothing says that it was interpolated, and
from which it surely was: SIDD .20 to .29, RENOIR .30 to .36, PolyU .39 to .68."""
HALF = 0.5
"""Of the way to the mean around, and of what noise made neighbours differ."""


def clip_radius(removed: BlockStats) -> Tensor:
    """Tell how far pixels may go; for `limit_sharpness`.

    Args:
        removed: of the whole picture.

    Returns:
        (1, h, w) by cells, in [0, 1] units: half of the standard deviation that noise of the same
        difference between neighbours would have if it were white; 0 where it is white.
    """
    shared = (quiet_correlation(removed) - WHITE) / (INTERPOLATED - WHITE)
    deviation = (removed.power[0] - removed.alike).clamp_min(0).sqrt()
    return (min(1.0, max(0.0, shared)) * HALF * deviation)[None]


def limit_sharpness(
    picture: Tensor, clip_radius: Tensor, *, above: int = 0, below: int = 0
) -> Tensor:
    """Bring pixels nearer to the binomial mean of the 3 x 3 around.

    Args:
        picture: (C, above + H + below, W) float32.
        clip_radius: (1, H, W), from `clip_radius` by `postprocess.blocks.upsample_blocks`.
        above: 1 where the row above is given as well, else 0: the first row is repeated.
        below: the same of the row below.

    Returns:
        (C, H, W).
    """
    around = F.pad(picture[None], (1, 1, 1 - above, 1 - below), mode="replicate")[0]
    for _ in range(2):
        around = around[:, :-1] + around[:, 1:]
        around = around[..., :-1] + around[..., 1:]
    own = picture[:, above : picture.shape[1] - below]
    change = torch.sub(HALF / 16 * around, own, alpha=HALF)
    return own + torch.maximum(torch.minimum(change, clip_radius), -clip_radius)
