"""Denoising whole images: the multi-mask pass and its refinements.

A `Predictor` is any function `(noisy, mask) -> prediction` over (B, C, H, W) and
(B, 1, H, W) tensors that uses only visible pixels. `core.networks.MaskedNetwork` turns a network
into one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from amsnet_cli.core.pixel_shuffle import pd_down, pd_up

Predictor = Callable[[Tensor, Tensor], Tensor]
ORIENTATIONS = 8
"""Ways to turn and mirror an image."""


def single_pass(predict: Predictor, noisy: Tensor) -> Tensor:
    """Denoise with nothing masked, by one evaluation of the network.

    Only for networks that were trained for it. One that was trained on masked pixels alone
    returns its input.

    Args:
        predict: see the module's docstring.
        noisy: (B, C, H, W).

    Returns:
        (B, C, H, W).
    """
    nothing = torch.zeros_like(noisy[:, :1], dtype=torch.bool)
    return predict(noisy, nothing)


def self_ensemble(predict: Predictor, noisy: Tensor, orientations: int) -> Tensor:
    """Average the single passes over turned and mirrored copies.

    The geometric self-ensemble of Lim et al., "Enhanced deep residual networks for single image
    super-resolution" (CVPRW 2017).

    Args:
        predict: see the module's docstring.
        noisy: (B, C, H, W).
        orientations: how many of the eight, 1 to `ORIENTATIONS`: turned by 0, 180, 90 and 270
            degrees, then the same mirrored.

    Returns:
        (B, C, H, W).
    """
    if orientations == 1:
        return single_pass(predict, noisy)
    total = torch.zeros_like(noisy)
    for i in range(orientations):
        turns, mirrored = (0, 2, 1, 3)[i % 4], i >= 4
        turned = torch.rot90(noisy.flip(3) if mirrored else noisy, turns, (2, 3))
        back = torch.rot90(single_pass(predict, turned), -turns, (2, 3))
        total += back.flip(3) if mirrored else back
    return total / orientations


def multi_mask_pass(
    predict: Predictor, noisy: Tensor, mask_index: Tensor, n_masks: int, stride: int = 1
) -> Tensor:
    """Denoise by complementary masks (AMSNet, the multi-mask scheme, MMDB).

    The network is evaluated once per mask, and only the masked pixels of its output are kept. So
    no pixel of the result depends on the same pixel of the input, whatever the network
    (blindness).

    Args:
        predict: see the module's docstring.
        noisy: (B, C, H, W).
        mask_index: (B, 1, H, W) integers in [0, n_masks): the pass that masks each pixel.
        n_masks: k, the number of passes.
        stride: of the pixel-shuffle downsampling around the passes; 1 for none.

    Returns:
        (B, C, H, W).
    """
    sub_images = pd_down(noisy, stride)  # (B*s*s, C, H/s, W/s)
    # Padding repeats pixels. The index is padded the same way: a pixel is masked with its copies.
    sub_index = pd_down(mask_index, stride)  # (B*s*s, 1, H/s, W/s)
    denoised = torch.zeros_like(sub_images)
    for j in range(n_masks):
        mask = sub_index == j
        denoised = torch.where(mask, predict(sub_images, mask), denoised)
    return pd_up(denoised, stride, (noisy.shape[-2], noisy.shape[-1]))


def random_replacement(
    denoised: Tensor, noisy: Tensor, share: float, generator: torch.Generator
) -> Tensor:
    """Replace random pixels of the result by noisy ones (R3 of AP-BSN; variant E of AMSNet).

    The refinement is the mean over several rounds (8 in the paper, with a share of 0.16) of
    `multi_mask_pass` without downsampling on what this returns.

    Args:
        denoised: (B, C, H, W), the result to refine.
        noisy: (B, C, H, W).
        share: fraction of the pixels that become noisy again, drawn independently for each pixel
            of each image, the same for all channels.
        generator: a CPU generator.

    Returns:
        (B, C, H, W).
    """
    batch, _, height, width = noisy.shape
    replaced = torch.rand((batch, 1, height, width), generator=generator) < share
    return torch.where(replaced.to(noisy.device), noisy, denoised)
