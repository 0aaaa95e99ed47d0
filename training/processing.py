"""What cameras and raw converters do to a photo: noise reduction, resampling, sharpening."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.random_parameters import RandomParameters


def reduce_noise(noise: Tensor, draw: RandomParameters) -> Tensor:
    """Return noise as in-camera noise reduction leaves it: blurred, chroma more than luma.

    Args:
        noise: (B, 3, H, W) float32.
        draw: gives the parameters.
    """
    luma = noise.mean(1, keepdim=True)
    chroma = noise - luma
    # Coring removes small deviations and keeps large ones: heavy tails.
    power = luma.square().mean((1, 2, 3), keepdim=True)
    cored = luma * luma.square() / (luma.square() + power * draw.uniform(0.0, 2.0)).clamp_min(1e-12)
    luma = torch.where(draw.chance(0.5), cored, luma)
    softened = gaussian_blur(luma, draw.uniform(0.3, 1.1)) * draw.uniform(0.7, 1.5)
    softened = softened + gaussian_blur(chroma, draw.uniform(0.2, 2.2)) * draw.log_uniform(0.1, 1.0)
    noise = torch.where(draw.chance(0.65), softened, noise)
    return noise + noise.std((1, 2, 3), keepdim=True) * _blotches(noise, draw)


def _blotches(like: Tensor, draw: RandomParameters) -> Tensor:
    """Low-frequency noise that noise reduction leaves in some patches, mostly chroma."""
    size = like.shape[-2:]
    scale = draw.log_uniform(2, 10).flatten().tolist()
    luma, chroma = draw.uniform(0.0, 0.4), draw.uniform(0.1, 0.6)
    blotches = torch.zeros_like(like)
    for i in torch.nonzero(draw.chance(0.45).flatten()).flatten().tolist():
        coarse_size = [math.ceil(side / scale[i]) for side in size]
        coarse = torch.randn((1, 3, *coarse_size), generator=draw.generator).to(draw.device)
        blotches[i] = F.interpolate(coarse, size, mode="bicubic")[0]
    brightness = blotches.mean(1, keepdim=True)
    return 1.7 * luma * brightness + chroma * (blotches - brightness)


def edge_preserving_reduction(
    noisy: Tensor, target: Tensor, chosen: Tensor, draw: RandomParameters
) -> tuple[Tensor, Tensor]:
    """Apply edge-preserving noise reduction: almost no noise in flat areas, all of it at edges.

    It teaches a network not to assume that noise at edges and in texture is as faint as in flat
    areas: in JPEGs of DSLRs it is several times as strong (`training.statistics`, PolyU). The local
    variance gives the fraction of the fine detail that noise does not explain; this is kept. The
    target is filtered in the same way, so that the network does not guess removed texture.

    Args:
        noisy: (B, 3, H, W) float32.
        target: the same shape.
        chosen: (B, 1, 1, 1) bool, which patches to filter.
        draw: gives the parameters.
    """
    sigma = draw.uniform(0.7, 2.0)
    luma = noisy.mean(1, keepdim=True)
    variance = gaussian_blur(luma.square(), sigma) - gaussian_blur(luma, sigma).square()
    power = (noisy - target).mean(1, keepdim=True).square().mean((1, 2, 3), keepdim=True)

    def gain(strength: Tensor) -> Tensor:
        kept = variance.clamp_min(0) / (variance + strength * power).clamp_min(1e-9)
        return gaussian_blur(kept, sigma)

    luma_gain, chroma_gain = (gain(draw.log_uniform(0.7, 15.0)) for _ in range(2))
    chroma_sigma = draw.uniform(0.7, 2.2)

    def reduced(x: Tensor) -> Tensor:
        y = x.mean(1, keepdim=True)
        chroma = x - y
        y_smooth, chroma_smooth = gaussian_blur(y, sigma), gaussian_blur(chroma, chroma_sigma)
        y = y_smooth + luma_gain * (y - y_smooth)
        return y + chroma_smooth + chroma_gain * (chroma - chroma_smooth)

    return torch.where(chosen, reduced(noisy), noisy), torch.where(chosen, reduced(target), target)


def resample(
    noisy: Tensor, target: Tensor, chosen: Tensor, draw: RandomParameters
) -> tuple[Tensor, Tensor]:
    """Resize the chosen patches by 0.5 to 3 and crop them to size (mirrored where smaller).

    Args:
        noisy: (B, 3, S, S) float32.
        target: the same shape.
        chosen: (B, 1, 1, 1) bool.
        draw: gives the parameters.
    """
    size = noisy.shape[-1]
    scale = draw.log_uniform(0.5, 3.0).flatten()
    noisy, target = noisy.clone(), target.clone()
    for i in torch.nonzero(chosen.flatten()).flatten().tolist():
        pair = torch.stack([noisy[i], target[i]])
        pair = F.interpolate(pair, scale_factor=float(scale[i]), mode="bicubic", antialias=True)
        short = max(0, size - pair.shape[-1])
        if short:
            pair = torch.cat([pair, pair.flip(2)], 2)[:, :, :size]
            pair = torch.cat([pair, pair.flip(3)], 3)[..., :size]
        start = (pair.shape[-1] - size) // 2
        noisy[i], target[i] = pair[..., start : start + size, start : start + size]
    return noisy, target


def sharpen(x: Tensor, amount: Tensor) -> Tensor:
    """Apply an unsharp mask with a sigma of one pixel; `amount` (B, 1, 1, 1), 0 for none."""
    return x + amount * (x - gaussian_blur(x, torch.ones_like(amount)))


def gaussian_blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur (B, C, H, W) with a Gaussian of one sigma per patch, in pixels; edges are reflected."""
    batch, channels, height, width = x.shape
    taps = torch.arange(-5, 6, device=x.device)
    kernel = torch.exp(-(taps**2) / (2 * sigma.reshape(-1, 1) ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # (B*C, 11)
    x = x.reshape(1, batch * channels, height, width)
    for shape, pad in (((1, 11), (5, 5, 0, 0)), ((11, 1), (0, 0, 5, 5))):
        weight = kernel.reshape(-1, 1, *shape)
        x = F.conv2d(F.pad(x, pad, mode="reflect"), weight, groups=batch * channels)
    return x.reshape(batch, channels, height, width)
