"""The noise of a picture, measured on the picture itself, and drawn anew.

Wherever a first denoised version is smooth, what the noisy picture holds beyond it is noise. Its
strength by brightness and its covariance between neighbours and channels describe the camera well
enough to make more of the same noise, and to choose strides.

Cameras that reduce noise themselves spare edges and texture, and their noise with them. There noise
cannot be told from structure; but noise that a sensor made is as strong in one flat place as in the
next of that brightness, and what such a camera has left of it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 6
"""Distance in pixels up to which noise is taken to be correlated."""
_CELL = 16
_NODES = 9
_SMOOTHEST = 0.15
"""Share of the cells that are measured."""
_SPREAD = 2.5
"""Between the darkest and the brightest parts noise differs by no more than this factor; what
looks like more is texture."""
_CUT = 4.0
"""Gaussian sigma in pixels; coarser structure belongs to the picture."""
_EVEN = (0.55, 0.75)
"""What the faintest cells (5 %) have of the power of quiet ones (a quarter) of their brightness: up
to the former, noise was surely reduced; from the latter on, surely not."""
_FEWEST_CELLS = 40
_SPARED = 0.4
"""By how much the power of spared noise grows, for each time that structure is as strong as the
noise of flats: about as that of `training.camera`."""


@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """Noise that depends on brightness and is alike between neighbours and channels.

    Attributes:
        levels: (9,) float32, standard deviation of luma noise at brightness 0, 1/8, ... 1, with
            luma the mean of the channels, in [0, 1] units.
        covariance: (2 * REACH + 1, 2 * REACH + 1, 3, 3) float32, of each channel with each
            channel at an offset (rows, columns), relative to the variance of luma.
        spared: how far the noise of edges and texture was spared when that of flats was reduced,
            in [0, 1].
    """

    levels: Tensor
    covariance: Tensor
    spared: float

    def sigma(self) -> float:
        """Standard deviation over the channels at middle brightness, in [0, 1] units."""
        per_channel = self.covariance[REACH, REACH].diagonal().mean().clamp_min(0).sqrt()
        return float(self.levels[_NODES // 2] * per_channel)

    def correlation(self, lag: int) -> float:
        """How alike luma noise is `lag` pixels away, mean of rows and columns."""
        luma = self.covariance.mean((2, 3))
        beside = luma[REACH, REACH + lag] + luma[REACH + lag, REACH]
        return float(beside / (2 * luma[REACH, REACH]).clamp_min(1e-12))

    def between_channels(self) -> float:
        """Mean correlation of the three pairs of channels."""
        here = self.covariance[REACH, REACH]
        sigma = here.diagonal().clamp_min(1e-12).sqrt()
        return float((here / torch.outer(sigma, sigma)).triu(1).sum() / 3)

    def stride(self, alike: float = 0.1) -> int:
        """The smallest stride that leaves luma noise less correlated than `alike`."""
        return next((s for s in range(1, REACH) if abs(self.correlation(s)) < alike), REACH - 1)


def estimate_noise(noisy: Tensor, denoised: Tensor) -> NoiseModel | None:
    """Measure the noise of a picture.

    Args:
        noisy: (3, H, W) float32 in [0, 1].
        denoised: a first denoised version of it, which may keep some of the noise.

    Returns:
        None where noise cannot be told: the picture is smaller than 32 x 32, or hardly any of it so
        smooth that noise is stronger than structure.
    """
    if min(noisy.shape[1:]) < 2 * _CELL:
        return None
    smooth = _blur(denoised)
    beyond = _cells(noisy - smooth)  # (N, 3, 16, 16): noise, and fine structure where there is any
    beyond = beyond - beyond.mean((2, 3), keepdim=True)
    structure = _power(_cells(denoised - smooth))
    removed = _power(_cells(noisy - denoised - _blur(noisy - denoised)))
    roughness = (structure + 1e-7) / (removed + 1e-7)  # (N,)
    brightness = _cells(denoised).mean((1, 2, 3))
    clipped = _cells(((noisy <= 0) | (noisy >= 1)).any(0, keepdim=True).float()).mean((1, 2, 3))
    whole = torch.nonzero(clipped < 0.05).flatten()
    if len(whole) < 4:  # a very dark picture: the least clipped parts must do
        whole = clipped.argsort()[: max(4, int(_SMOOTHEST * len(clipped)))]

    ranked = whole[roughness[whole].argsort()]
    # What the very smoothest hold beyond a blur is noise that the first version keeps.
    kept = roughness[ranked[len(ranked) // 20]]
    flat = ranked[roughness[ranked] < kept + 1]
    if len(flat) < _SMOOTHEST * len(ranked):
        return None
    first = ranked[: max(4, int(_SMOOTHEST * len(ranked)))]
    smoothish = ranked[roughness[ranked] < 6 * roughness[first].median()]
    picked = set(first.tolist())
    nodes = torch.linspace(0, 1, _NODES)
    for node in nodes:
        near = smoothish[(brightness[smoothish] - node).abs() < 0.5 / (_NODES - 1)]
        if len(near) >= 4:
            picked |= set(near[: max(2, int(_SMOOTHEST * len(near)))].tolist())
    chosen = torch.tensor(sorted(picked))

    variance, at = _power(beyond[chosen]), brightness[chosen]
    levels = torch.full((_NODES,), torch.nan)
    for i, node in enumerate(nodes):
        near = (at - node).abs() < 1 / (_NODES - 1)
        if near.sum() >= 2:
            levels[i] = variance[near].median()
    levels = _filled(levels, float(variance.median()))
    levels = levels.clamp_max(_SPREAD**2 * float(levels.min()))
    expected = _read(levels, at)
    sound = (variance < 2 * expected) & (variance > 0.3 * expected)
    cells = beyond[chosen] / variance.clamp_min(1e-9).sqrt()[:, None, None, None]
    return NoiseModel(
        levels=levels.sqrt(),
        covariance=_covariance(cells[sound] if sound.sum() >= 2 else cells),
        spared=_spared(removed[flat], brightness[flat]),
    )


class NoiseSampler:
    """Draws noise as a model says.

    Args:
        model: see `NoiseModel`.
        side: of the square pictures that noise is drawn for.
    """

    def __init__(self, model: NoiseModel, side: int) -> None:
        self.levels, self.spared, self.side = model.levels, model.spared, side
        kernel = torch.zeros(side, side, 3, 3)
        for i in range(-REACH, REACH + 1):
            for j in range(-REACH, REACH + 1):
                kernel[i % side, j % side] += model.covariance[REACH + i, REACH + j]
        spectrum = torch.fft.fft2(kernel, dim=(0, 1))  # (S, S, 3, 3), Hermitian but for rounding
        values, vectors = torch.linalg.eigh(0.5 * (spectrum + spectrum.mH))
        self._root = vectors * values.clamp_min(0).sqrt()[..., None, :]

    def draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Draw noise for a picture.

        Args:
            clean: (3, S, S) float32 in [0, 1]; gives the brightness, and the structure beside which
                noise was spared.
            generator: a CPU generator.

        Returns:
            (3, S, S) float32.
        """
        white = torch.randn(self.side, self.side, 3, generator=generator)
        coloured = (self._root @ torch.fft.fft2(white, dim=(0, 1))[..., None])[..., 0]
        noise: Tensor = torch.fft.ifft2(coloured, dim=(0, 1)).real.permute(2, 0, 1)
        sigma = _read(self.levels, clean.mean(0))
        if self.spared:
            fine = (clean - _blur(clean)).mean(0, keepdim=True)
            structure = _blur(fine.square())[0].sqrt()
            sigma = (sigma.square() + _SPARED * self.spared * sigma * structure).sqrt()
        return noise * sigma


def _covariance(cells: Tensor) -> Tensor:
    """Mean covariance of (N, 3, P, P) at offsets up to REACH, faded out towards the far ones."""
    side = cells.shape[-1]
    spectrum = torch.fft.fft2(cells, s=(2 * side, 2 * side))  # zeros around: no wrapping
    power = torch.einsum("nayx,nbyx->yxab", spectrum, spectrum.conj()) / len(cells)
    covariance = torch.fft.ifft2(power, dim=(0, 1)).real
    offsets = torch.arange(-REACH, REACH + 1)
    overlap = (side - offsets.abs()).float()
    fade = torch.hann_window(2 * REACH + 3, periodic=False)[1:-1].sqrt() / overlap
    near: Tensor = covariance[offsets][:, offsets]
    return near * torch.outer(fade, fade)[..., None, None]


def _spared(removed: Tensor, brightness: Tensor) -> float:
    """Tell `NoiseModel.spared` by what was removed from cells of some brightness, (N,) each."""
    total, sums = 0, 0.0
    for node in torch.linspace(0, 1, _NODES):
        near = removed[(brightness - node).abs() < 1 / (_NODES - 1)].sort().values
        if len(near) >= _FEWEST_CELLS:
            faintest, quiet = near[len(near) // 20], near[len(near) // 4]
            total += len(near)
            sums += len(near) * float(faintest / quiet.clamp_min(1e-9))
    even = (sums / total - _EVEN[0]) / (_EVEN[1] - _EVEN[0]) if total else 1.0
    return 1 - min(1.0, max(0.0, even))


def _power(cells: Tensor) -> Tensor:
    """Mean square of the luma of (N, 3, P, P)."""
    return cells.mean(1).square().mean((1, 2))


def _cells(x: Tensor) -> Tensor:
    """Cut (C, H, W) into whole cells, (N, C, 16, 16)."""
    channels = x.shape[0]
    cut = x.unfold(1, _CELL, _CELL).unfold(2, _CELL, _CELL)  # (C, h, w, 16, 16)
    return cut.permute(1, 2, 0, 3, 4).reshape(-1, channels, _CELL, _CELL)


def _blur(x: Tensor) -> Tensor:
    """Gaussian blur of (C, H, W), edges repeated."""
    reach = int(3 * _CUT)
    taps = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * _CUT**2))
    taps = taps / taps.sum()
    planes = F.pad(x[:, None], (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(planes, taps[None, None, None]), taps[None, None, :, None])[:, 0]


def _filled(levels: Tensor, otherwise: float) -> Tensor:
    """Fill NaNs linearly from their neighbours, level at the ends."""
    known = torch.nonzero(levels.isfinite()).flatten()
    if not len(known):
        return torch.full_like(levels, otherwise)
    out = levels.clone()
    for i in range(len(levels)):
        below, above = known[known <= i], known[known >= i]
        low = below[-1] if len(below) else above[0]
        high = above[0] if len(above) else below[-1]
        share = float((i - low) / (high - low)) if high > low else 0.0
        out[i] = torch.lerp(levels[low], levels[high], share)
    return out


def _read(levels: Tensor, brightness: Tensor) -> Tensor:
    """Read `levels` at `brightness` in [0, 1], linearly."""
    place = brightness.clamp(0, 1) * (len(levels) - 1)
    low = place.long().clamp_max(len(levels) - 2)
    return torch.lerp(levels[low], levels[low + 1], place - low)
