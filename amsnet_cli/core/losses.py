"""Self-supervised losses: no clean image appears anywhere."""

from __future__ import annotations

from torch import Tensor

SMOOTHING_WEIGHT = 0.01
"""Weight of the total variation in `prior_smoothing`, as in the paper."""


def masked_l1(prediction: Tensor, noisy: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error on the masked pixels only (AMSNet, the single mask scheme).

    Args:
        prediction: (B, C, H, W), the network's output for the visible pixels.
        noisy: (B, C, H, W), the noisy image itself, the target.
        mask: (B, 1, H, W) bool, True where masked.

    Returns:
        Scalar; 0 if nothing is masked.
    """
    counted = mask.to(prediction.dtype)
    error = (prediction - noisy).abs() * counted
    return error.sum() / (counted.sum() * noisy.shape[1]).clamp_min(1.0)


def prior_smoothing(prediction: Tensor, noisy: Tensor, weight: float = SMOOTHING_WEIGHT) -> Tensor:
    """Prior smoothing: distance to the noisy image plus weighted total variation (variant P).

    Args:
        prediction: (B, C, H, W), the output of the multi-mask pass.
        noisy: (B, C, H, W).
        weight: of the total variation, 0.01 in the paper.

    Returns:
        Scalar: mean absolute distance to `noisy` plus `weight` times the anisotropic total
        variation, summed over both directions and averaged over pixels and channels.
    """
    down = (prediction[..., 1:, :] - prediction[..., :-1, :]).abs().sum()
    right = (prediction[..., :, 1:] - prediction[..., :, :-1]).abs().sum()
    variation = (down + right) / prediction.numel()
    return (prediction - noisy).abs().mean() + weight * variation
