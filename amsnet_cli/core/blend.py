"""How much of the removed noise goes back, as a photographer asks for it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.core.fusion import CELL, LIKELY_STRUCTURE, fuse, measure_removed, noise_share


def blend(
    noisy: Tensor, denoised: Tensor, luma: float = 1.0, chroma: float = 1.0, detail: float = 0.0
) -> Tensor:
    """Give back some of what was removed; linear in each of the three.

    Args:
        noisy: (C, H, W) float32 in [0, 1], C = 1 (grey) or 3 (RGB).
        denoised: the same shape.
        luma: share of the brightness noise that stays away, in [0, 1].
        chroma: share of the colour noise that stays away, in [0, 1]; nothing to grey.
        detail: share of the lost texture that is given back, in [0, 1]: of the brightness that
            was removed, what is likely no noise (see `fusion.noise_share`).

    Returns:
        (C, H, W): `denoised` at 1, 1, 0, and `noisy` at 0, 0, whatever the detail. No pixel's
        brightness moves beyond the noisy one's.
    """
    stays = torch.full_like(noisy[:1], luma)
    if detail:
        shares = noise_share(measure_removed(noisy, denoised), LIKELY_STRUCTURE)[:1]  # (1, h, w)
        smooth = F.interpolate(shares[None], scale_factor=CELL, mode="bilinear")[0]
        smooth = smooth[:, : noisy.shape[1], : noisy.shape[2]]  # (1, H, W)
        stays *= 1 - detail * (1 - smooth)
    return fuse(noisy, denoised, stays, noisy.new_tensor(chroma))
