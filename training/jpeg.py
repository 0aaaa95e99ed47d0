"""Rounding to 8 bits and JPEG compression of simulated photos."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from training.random_parameters import RandomParameters

_REC_601 = (0.299, 0.587, 0.114)
"""Luma weights of JPEG."""

JpegPass = tuple[int, int, list[int]]
"""Quality, Pillow's number of the chroma subsampling, and the block grid's offset in pixels."""


def quantise(
    noisy: Tensor, target: Tensor, as_jpeg: Tensor, draw: RandomParameters
) -> tuple[Tensor, Tensor]:
    """Round to 8 bits, and compress some patches as JPEG once or twice.

    Quality is 55 to 99, subsampling 4:4:4 to 4:2:0. Photos are often cropped or rotated between two
    compressions, or after the last. So the block grid has a random offset, except for most last
    compressions. JPEG removes fine chroma from every photo of a scene, so the target loses it too.

    Args:
        noisy: (B, 3, H, W) float32 in [0, 1].
        target: the same shape.
        as_jpeg: (B,) bool, which patches to compress.
        draw: gives the parameters.

    Returns:
        noisy with values of 8 bits, and the target.
    """
    first, last = (draw.uniform(low, 100).flatten().int().tolist() for low in (80, 55))
    subsampling = draw.uniform(0, 4).flatten().int().clamp_max(2).tolist()
    twice, shifted = (draw.chance(p).flatten().tolist() for p in (0.3, 0.25))
    offsets = draw.uniform(0, 8, 2, 2).int().tolist()
    pixels, target = (noisy * 255).round().to(torch.uint8).cpu(), target.clone()
    jobs: list[tuple[int, list[JpegPass]]] = []
    for i in torch.nonzero(as_jpeg).flatten().tolist():
        passes = [(last[i], subsampling[i], offsets[i][1] if shifted[i] else [0, 0])]
        if twice[i]:
            passes.insert(0, (first[i], subsampling[i], offsets[i][0]))
        for _, _, offset in passes:
            target[i] = _subsample_chroma(target[i], subsampling[i], offset)
        jobs.append((i, passes))

    def compress(job: tuple[int, list[JpegPass]]) -> None:
        i, passes = job
        for quality, chroma, offset in passes:
            pixels[i] = _jpeg(pixels[i], quality, chroma, offset)

    if noisy.device.type == "cpu":  # Other workers use the cores.
        for job in jobs:
            compress(job)
    else:
        with ThreadPoolExecutor() as pool:
            list(pool.map(compress, jobs))
    return pixels.to(noisy.device).float() / 255, target.clamp(0, 1)


def _jpeg(pixels: Tensor, quality: int, subsampling: int, offset: list[int]) -> Tensor:
    """Compress (3, H, W) uint8 as JPEG, with the block grid offset by rows and columns."""
    top, left = offset
    padded = np.pad(pixels.numpy(), ((0, 0), (top, 0), (left, 0)), mode="reflect")
    file = io.BytesIO()
    Image.fromarray(padded.transpose(1, 2, 0)).save(
        file, "JPEG", quality=quality, subsampling=subsampling
    )
    coded = np.asarray(Image.open(file))[top:, left:]
    return torch.from_numpy(coded.copy()).permute(2, 0, 1)


def _subsample_chroma(x: Tensor, subsampling: int, offset: list[int]) -> Tensor:
    """Apply only the chroma subsampling of JPEG to (3, H, W); see `_jpeg`."""
    if subsampling == 0:
        return x
    step, (top, left) = ((1, 2) if subsampling == 1 else (2, 2)), offset
    luma = torch.einsum("chw,c->hw", x, x.new_tensor(_REC_601))
    chroma = F.pad((x - luma)[None], (left, 0, top, 0), mode="reflect")
    height, width = chroma.shape[-2:]
    chroma = F.avg_pool2d(chroma, step, ceil_mode=True)
    chroma = F.interpolate(chroma, scale_factor=step, mode="bilinear")
    return luma + chroma[0, :, top:height, left:width]
