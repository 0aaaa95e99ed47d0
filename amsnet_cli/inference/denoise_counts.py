"""Denoise one page of an instrument: a picture that counts light, in the scale of even noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amsnet_cli.inference.denoise import single_pass_only
from amsnet_cli.inference.memory import memory_errors
from amsnet_cli.inference.photo_rows import postprocess_photo, run_photo
from amsnet_cli.inference.tiles import Tile
from amsnet_cli.model import Model
from amsnet_cli.noise.counts import CountsNoise
from amsnet_cli.noise.whiteness import is_white
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.postprocess.pipeline import BlendSettings
from amsnet_cli.postprocess.significant import SignificanceConfig, keep_significant

Page = NDArray[Any]
"""(H, W) of any integer or float type, in native byte order."""


@dataclass(frozen=True, kw_only=True)
class CountsOptions:
    """How a page is denoised.

    Attributes:
        strength: 0 keeps the page, 1 is what the network says; None as for photos.
        keep_flux: give back what surely is there, so that fluxes stay: for measurements.
        widest: standard deviations of the noise that the network sees side by side. Pages of a
            larger range are compressed above and below their median, or their noise would be too
            faint for the network.
        tile: longest side of a tile in pixels; 0 chooses by the free memory.
        max_memory: memory budget of this process on the device, in bytes; None for no limit.
        significance: numbers of `keep_flux`.
    """

    strength: float | None = None
    keep_flux: bool = False
    widest: float = 40.0
    tile: int = 0
    max_memory: int | None = None
    significance: SignificanceConfig = field(default_factory=SignificanceConfig)


def denoise_counts(
    page: Page,
    noise: CountsNoise,
    model: Model,
    options: CountsOptions = CountsOptions(),
    *,
    device: torch.device = torch.device("cpu"),
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[Page, str]:
    """Denoise a page.

    Args:
        page: values that are not finite stay as they are.
        noise: of the page, in its units.
        model: with a single pass; its model for white noise takes over where the noise is white.
        options: see `CountsOptions`.
        device: where to compute.
        progress: called with the share done, in (0, 1].

    Returns:
        The page in its own type, integers rounded and clipped, and the name of the model.

    Raises:
        UsageError: the model has no single pass.
        WeightsError: the network gives NaN.
        DeviceError: out of memory, even with small tiles.
    """
    inference = single_pass_only(model)
    known = np.isfinite(page)
    if options.strength == 0 or not known.any():
        return page.copy(), model.name
    values = torch.from_numpy(np.where(known, page, np.nan).astype(np.float64))
    stabilised = noise.stabilise(values)
    scale = _Scale.of(stabilised[torch.from_numpy(known)], options.widest)
    if scale.high <= scale.low:
        return page.copy(), model.name
    unit = scale.to_unit(stabilised).float()
    height, width = page.shape
    photo = Photo(pixels=unit[..., None].numpy())
    codec = PixelCodec(dtype=np.dtype(np.float32))
    white = is_white(torch.from_numpy(codec.decode(photo.pixels)).permute(2, 0, 1))
    selected = model.white if white and model.white is not None else model
    strength: Any = "auto" if options.strength is None else options.strength
    with memory_errors(device):
        output = run_photo(
            photo, Tile(top=0, bottom=height, left=0, right=width), codec, selected, inference,
            tile=options.tile, max_memory=options.max_memory, device=device, progress=progress,
        )  # fmt: skip
        clean = postprocess_photo(
            photo, output, codec,
            BlendSettings(
                luma=strength, chroma=strength, corrections=options.strength is None
            ),
            white_noise=white and selected.config.noise == "white",
        )  # fmt: skip
        denoised = scale.from_unit(torch.from_numpy(clean.pixels[..., 0]).double())
        if options.keep_flux:
            # Where nothing is known, nothing was removed.
            there, denoised = (
                torch.where(stabilised.isfinite(), x, scale.centre).float()[None, None]
                for x in (stabilised, denoised)
            )
            denoised = keep_significant(there, denoised, options.significance)[0, 0].double()
    result = noise.unstabilise(denoised).numpy()
    return np.where(known, _as_type(result, page.dtype), page), selected.name


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """From the stabilised scale to what the network sees, [0, 1].

    Attributes:
        centre: the median.
        knee: distance from it at which compression sets in; infinite for none.
        low: the least value, compressed.
        high: the greatest.
    """

    centre: float
    knee: float
    low: float
    high: float

    @classmethod
    def of(cls, stabilised: Tensor, widest: float) -> _Scale:
        centre, low, high = (float(f(stabilised)) for f in (torch.median, torch.min, torch.max))
        below, above, knee = centre - low, high - centre, math.inf
        if below + above > widest:
            knee, least = widest, 1e-6
            for _ in range(60):
                middle = math.sqrt(least * knee)
                wide = middle * (math.asinh(below / middle) + math.asinh(above / middle)) > widest
                least, knee = (least, middle) if wide else (middle, knee)
            below, above = (knee * math.asinh(x / knee) for x in (below, above))
        return cls(centre=centre, knee=knee, low=centre - below, high=centre + above)

    def to_unit(self, stabilised: Tensor) -> Tensor:
        away = stabilised - self.centre
        if math.isfinite(self.knee):
            away = self.knee * torch.asinh(away / self.knee)
        return (away + self.centre - self.low) / (self.high - self.low)

    def from_unit(self, unit: Tensor) -> Tensor:
        away = unit * (self.high - self.low) + self.low - self.centre
        if math.isfinite(self.knee):
            away = self.knee * torch.sinh(away / self.knee)
        return away + self.centre


def _as_type(values: NDArray[np.float64], dtype: np.dtype[Any]) -> Page:
    """Round and clip to an integer type, or narrow to a float type."""
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        return values.clip(limits.min, limits.max).astype(dtype)
    integers = np.iinfo(dtype)
    return np.rint(values).clip(integers.min, integers.max).astype(dtype)
