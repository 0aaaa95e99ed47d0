"""Denoise one page of an instrument: a picture that counts light, in the scale of even noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amsnet_cli.core.photo_noise import PhotoNoise
from amsnet_cli.errors import UsageError
from amsnet_cli.inference.denoise import single_pass_only
from amsnet_cli.inference.memory import memory_errors
from amsnet_cli.inference.noise_estimate import estimate_told_noise
from amsnet_cli.inference.photo_rows import postprocess_photo, run_photo
from amsnet_cli.inference.tiles import Tile
from amsnet_cli.model import Model
from amsnet_cli.noise.counts import CountsNoise
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.postprocess.pipeline import BlendSettings
from amsnet_cli.postprocess.significant import (
    SignificanceConfig,
    keep_significant,
    keep_unexplained,
)

Page = NDArray[Any]
"""(H, W) of any integer or float type, in native byte order."""


@dataclass(frozen=True, kw_only=True)
class CountsOptions:
    """How a page is denoised.

    Attributes:
        strength: 0 keeps the page; else as for photos.
        keep_flux: give back what surely is there, so that fluxes stay: for measurements.
        widest: standard deviations of the noise that the network sees side by side. Where stars
            have a larger range, they are compressed, or the noise of the sky would be too faint
            for the network.
        room: but it sees at least this many times the range of the bulk.
        bulk: quantiles of the values that are never compressed.
        margin: standard deviations that they reach beyond.
        farthest: standard deviations from the median beyond which values are no light, but stand
            for something; they stay as they are.
        tile: longest side of a tile in pixels; 0 chooses by the free memory.
        max_memory: memory budget of this process on the device, in bytes; None for no limit.
        significance: numbers of `keep_flux`.
    """

    strength: float | None = None
    keep_flux: bool = False
    widest: float = 40.0
    room: float = 1.25
    bulk: tuple[float, float] = (0.01, 0.99)
    margin: float = 3.0
    farthest: float = 1e4
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
) -> Page:
    """Denoise a page.

    Args:
        page: values that are not finite stay as they are.
        noise: of the page, in its units.
        model: with a single pass.
        options: see `CountsOptions`.
        device: where to compute.
        progress: called with the share done, in (0, 1].

    Returns:
        The page in its own type, integers rounded and clipped.

    Raises:
        UsageError: the model has no single pass.
        WeightsError: the network gives NaN.
        DeviceError: out of memory, even with small tiles.
    """
    inference = single_pass_only(model)
    if options.strength == 0:
        return page.copy()
    seen = _seen(page, noise, options)
    if seen is None:
        return page.copy()
    height, width = page.shape
    photo = Photo(pixels=seen.unit[..., None])
    codec = PixelCodec(dtype=np.dtype(np.float32))
    more = options.strength is not None and options.strength > 1
    if more and not model.network.is_told:
        raise UsageError(
            f"model {model.name} is not told the noise: its strength is at most 1",
            "use --strength 1, or -w photo",
        )
    strength: Any = "auto" if options.strength is None else options.strength
    told, sigma = None, seen.scale.sigma
    with memory_errors(device):
        if model.network.is_told:  # The strength of the noise is known, not its spectrum.
            factor = 1.0 if options.strength is None else options.strength
            measured = estimate_told_noise(photo, codec, model.network.to(device))
            level = torch.full_like(measured.log_sigma, math.log(255 * sigma))
            told = PhotoNoise(log_sigma=level, spectrum=measured.spectrum).scaled(factor)
            strength = "auto"
        output = run_photo(
            photo, Tile(top=0, bottom=height, left=0, right=width), codec, model, inference,
            noise=told, tile=options.tile, max_memory=options.max_memory, device=device,
            progress=progress,
        )  # fmt: skip
        clean = postprocess_photo(
            photo, output, codec,
            BlendSettings(
                luma=strength, chroma=strength, corrections=strength == "auto"
            ),
            device=device,
        )  # fmt: skip
        denoised = seen.scale.from_unit(torch.from_numpy(clean.pixels[..., 0]).double())
        if options.strength is None or options.keep_flux:
            # Where nothing is known, nothing was removed.
            there, denoised = (
                torch.where(seen.stabilised.isfinite(), x, seen.median).float()[None, None]
                for x in (seen.stabilised, denoised)
            )
            denoised = keep_unexplained(there, denoised, options.significance)
            if options.keep_flux:
                denoised = keep_significant(there, denoised, options.significance)
            denoised = denoised[0, 0].double()
    result = noise.unstabilise(denoised).numpy()
    known = seen.stabilised.isfinite().numpy()
    return np.where(known, _as_type(result, page.dtype), page)


def unit_page(
    page: Page, noise: CountsNoise, options: CountsOptions = CountsOptions()
) -> NDArray[np.float32] | None:
    """Return what a network sees of a page: (H, W) in [0, 1], NaN where nothing is known.

    None where the page holds no light or is of one value.
    """
    seen = _seen(page, noise, options)
    return seen.unit if seen else None


def unit_mean(
    page: Page, others: Sequence[Page], noise: CountsNoise, options: CountsOptions = CountsOptions()
) -> NDArray[np.float32] | None:
    """Return the mean of other pages of the same scene, in the scale of `unit_page`.

    It is the mean of the stabilised values, as a network's result is.
    """
    seen = _seen(page, noise, options)
    if seen is None:
        return None
    total = torch.zeros(page.shape, dtype=torch.float64)
    for other in others:
        total += noise.stabilise(torch.from_numpy(other.astype(np.float64)))
    unit: NDArray[np.float32] = seen.scale.to_unit(total / len(others)).float().numpy()
    return unit


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A page as the network sees it.

    Attributes:
        unit: (H, W) in [0, 1].
        scale: from the stabilised values to `unit`.
        stabilised: (H, W) double; nan where nothing is known.
        median: of it.
    """

    unit: NDArray[np.float32]
    scale: _Scale
    stabilised: Tensor
    median: Tensor


def _seen(page: Page, noise: CountsNoise, options: CountsOptions) -> _Seen | None:
    known = np.isfinite(page)
    if not known.any():
        return None
    values = torch.from_numpy(np.where(known, page, np.nan).astype(np.float64))
    stabilised = noise.stabilise(values)
    median = stabilised.nanmedian()
    # The transform hides how far below the dark a value is.
    lowest = values.nanmedian()
    lowest = lowest - options.farthest * noise.variance(lowest).clamp_min(abs(noise.b)).sqrt()
    near = (stabilised - median <= options.farthest) & (values >= lowest)
    stabilised = torch.where(near, stabilised, torch.nan)
    scale = _Scale.of(stabilised[near], options)
    if scale.high <= scale.low:
        return None
    unit = scale.to_unit(stabilised).float().numpy()
    return _Seen(unit=unit, scale=scale, stabilised=stabilised, median=median)


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """From the stabilised scale to what the network sees, [0, 1].

    Attributes:
        start: the least value of the bulk, below which values are compressed.
        end: the greatest, above which they are.
        knee: distance from both at which compression sets in; infinite for none.
        low: the least value, compressed.
        high: the greatest.
    """

    start: float
    end: float
    knee: float
    low: float
    high: float

    @classmethod
    def of(cls, stabilised: Tensor, options: CountsOptions) -> _Scale:
        values = stabilised.numpy()
        start, end = np.quantile(values, options.bulk)
        start, end = start - options.margin, end + options.margin
        below, above = max(0.0, start - values.min()), max(0.0, values.max() - end)
        widest, knee = max(options.widest, options.room * (end - start)), math.inf
        if end - start + below + above > widest:
            knee, least = widest, 1e-6
            for _ in range(60):
                middle = math.sqrt(least * knee)
                tails = middle * (math.asinh(below / middle) + math.asinh(above / middle))
                least, knee = (least, middle) if end - start + tails > widest else (middle, knee)
            below, above = (knee * math.asinh(x / knee) for x in (below, above))
        low, high = start - below, end + above
        if not math.isfinite(knee):
            low, high = float(values.min()), float(values.max())
        return cls(start=start, end=end, knee=knee, low=low, high=high)

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise in what the network sees."""
        return 1 / (self.high - self.low)

    def to_unit(self, stabilised: Tensor) -> Tensor:
        return (self._bent(stabilised, torch.asinh) - self.low) / (self.high - self.low)

    def from_unit(self, unit: Tensor) -> Tensor:
        return self._bent(unit * (self.high - self.low) + self.low, torch.sinh)

    def _bent(self, values: Tensor, curve: Callable[[Tensor], Tensor]) -> Tensor:
        if not math.isfinite(self.knee):
            return values
        bulk = values.clamp(self.start, self.end)
        return bulk + self.knee * curve((values - bulk) / self.knee)


def _as_type(values: NDArray[np.float64], dtype: np.dtype[Any]) -> Page:
    """Round and clip to an integer type, or narrow to a float type."""
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        return values.clip(limits.min, limits.max).astype(dtype)
    integers = np.iinfo(dtype)
    return np.rint(values).clip(integers.min, integers.max).astype(dtype)
