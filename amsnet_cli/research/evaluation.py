"""Score denoised pictures against clean ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from amsnet_cli.errors import PhotoError
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.model import Model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import with_depth
from amsnet_cli.research.datasets import Pair

PROTOCOL = (
    "PSNR in dB on 8-bit RGB after rounding; SSIM with a uniform 7x7 window, mean of channels; "
    "both averaged over pictures"
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """PSNR in dB and SSIM of one picture, before and after."""

    name: str
    noisy_psnr: float
    noisy_ssim: float
    psnr: float
    ssim: float


def psnr(image: NDArray[np.uint8], clean: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures of one shape, in dB; inf if equal."""
    error = np.mean((image.astype(np.float64) - clean) ** 2)
    return math.inf if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(image: NDArray[np.uint8], clean: NDArray[np.uint8]) -> float:
    """Structural similarity (Wang et al., 2004) as scikit-image computes it by default.

    Uniform 7x7 window, sample covariance, borders of 3 pixels left out, channels averaged.

    Args:
        image: (H, W, C), sides of at least 7 pixels.
        clean: the same shape.

    Returns:
        At most 1; nan for pictures too small for the window.
    """
    if min(image.shape[:2]) < 7:
        return math.nan
    x, y = (
        torch.from_numpy(a.astype(np.float64)).permute(2, 0, 1)[None] for a in (image, clean)
    )  # (1, C, H, W)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(values, 7, stride=1)

    mean_x, mean_y = mean(x), mean(y)
    unbiased = 49 / 48
    var_x = unbiased * (mean(x * x) - mean_x**2)
    var_y = unbiased * (mean(y * y) - mean_y**2)
    covariance = unbiased * (mean(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((numerator / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def evaluate(
    pairs: Iterable[Pair],
    model: Model,
    options: DenoiseOptions = DenoiseOptions(),
    *,
    device: torch.device = torch.device("cpu"),
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[Score]:
    """Denoise the noisy picture of each pair and score the result against the clean one.

    Args:
        pairs: noisy and clean pictures, as from `find_pairs`.
        model: see `denoise`.
        options: see `denoise`.
        device: see `denoise`.
        progress: called with the fraction done of the current picture.

    Yields:
        The score of each pair; see `PROTOCOL`.

    Raises:
        PhotoError: a picture cannot be read, or a pair differs in size.
    """
    for pair in pairs:
        noisy, clean = pair.noisy(), _rgb8(pair.clean())
        before = _rgb8(noisy)
        if before.shape != clean.shape:
            raise PhotoError(
                f"{pair.name}: the noisy picture has {_size(before)} pixels, the clean one "
                f"{_size(clean)}"
            )
        denoised = denoise(noisy, model, options, device=device, progress=progress)
        after = _rgb8(denoised.photo)
        yield Score(
            name=pair.name,
            noisy_psnr=psnr(before, clean), noisy_ssim=ssim(before, clean),
            psnr=psnr(after, clean), ssim=ssim(after, clean),
        )  # fmt: skip


def _rgb8(photo: Photo) -> NDArray[np.uint8]:
    pixels = with_depth(photo, 8).pixels
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _size(pixels: NDArray[np.uint8]) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
