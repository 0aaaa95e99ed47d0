"""A first look at a folder: its cameras and their noise, and what suits it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from amsnet_cli.fitting.images import Shots
from amsnet_cli.inference.denoise import DenoiseOptions, denoise, quantisation_step
from amsnet_cli.model import Model
from amsnet_cli.noise.level import is_white
from amsnet_cli.noise.model import NoiseModel, estimate_noise
from amsnet_cli.photos.photo import Photo, Pixels
from amsnet_cli.photos.pixel_codec import with_depth
from amsnet_cli.postprocess.block_stats import block_stats, quiet_power
from amsnet_cli.postprocess.texture import noise_confidence

HARDLY_ANY = 0.65 / 255
"""Standard deviation below which there is no noise to speak of, of a photo or its quiet places."""
TRUSTED = 0.8
"""`core.fusion.noise_confidence` below which what was removed may as well be texture or grain."""
_DISTINCT = 2.0
"""By how much noise levels differ in a folder that is called mixed."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A window and what is known of it.

    Attributes:
        window: its number in `Shots.windows`.
        denoised: (H, W, 3) uint16, by the model at hand.
        noise: None where it cannot be told: the window is too small or too full of texture, or
            hardly has any.
        clean: whether it hardly has any, or none that is surely no texture.
    """

    window: int
    denoised: Pixels
    noise: NoiseModel | None
    clean: bool


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a folder holds.

    Attributes:
        photos: how many were read.
        found: how many there are, but those that could not be read.
        cameras: by name, each with its lowest and highest ISO, or nothing where no photo says.
        unnamed: photos that name no camera.
        levels: of the photos' noise, standard deviations in [0, 1] units, ascending; empty where
            none could be measured.
        by_brightness: the same for dark, middle and bright tones, medians of the photos.
        alike: correlation of the brightness noise of neighbouring pixels, median.
        between_channels: correlation of the noise of two channels, median.
        stride: that leaves the noise of four photos in five uncorrelated.
        clean: whether most of the photos hold hardly any noise.
    """

    photos: int
    found: int
    cameras: dict[str, list[int]]
    unnamed: int
    levels: list[float]
    by_brightness: tuple[float, float, float]
    alike: float
    between_channels: float
    stride: int
    clean: bool

    @property
    def mixed(self) -> bool:
        """Whether the photos differ in camera or much in noise."""
        spread = self.levels[-1] > _DISTINCT * self.levels[0] if self.levels else False
        return spread or len(self.cameras) + bool(self.unnamed) > 1

    def lines(self) -> list[str]:
        """Put it in words."""
        named = [
            name + (f", ISO {_range(isos)}" if isos else "") for name, isos in self.cameras.items()
        ]
        if self.unnamed:
            named.append(f"{self.unnamed} that name no camera")
        of = f" of {self.found}, drawn at random" if self.found > self.photos else ""
        said = [f"{self.photos} photo{'s' * (self.photos > 1)}{of}: {'; '.join(named)}"]
        if self.clean:
            return [*said, "hardly any noise in them that can be told from texture"]
        if not self.levels:
            return [*said, "too small, or too full of texture, to measure their noise"]
        low, middle, high = (255 * self.levels[i] for i in (0, len(self.levels) // 2, -1))
        dark, mid, bright = (255 * level for level in self.by_brightness)
        said += [
            f"noise {middle:.1f} of 255 ({low:.1f} to {high:.1f}); in dark, middle and bright "
            f"tones {dark:.1f}, {mid:.1f}, {bright:.1f}",
            f"neighbours share {self.alike:.2f} of it, channels {self.between_channels:.2f}; "
            f"{self.stride} pixel{'s' * (self.stride > 1)} apart none",
        ]
        if self.mixed:
            said.append("the photos differ: each is learned with its own noise")
        return said


def look_at(
    shots: Shots,
    model: Model,
    *,
    most: int | None = None,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[Look]:
    """Denoise windows, and measure the noise in each.

    Args:
        shots: whose windows.
        model: gives the first denoised version.
        most: windows, evenly spread over the folder; None for all.
        device: where to compute.
        progress: called with how many are done, and of how many.
    """
    there = len(shots.windows)
    count = there if most is None else min(most, there)
    chosen = [i * there // count for i in range(count)]
    looks = []
    for done, number in enumerate(chosen, 1):
        # In 16 bits, as a first version rounded to 8 would hold noise of its own.
        window = shots.windows[number]
        noisy = with_depth(
            Photo(pixels=window.pixels, quantisation_step=window.quantisation_step), 16
        )
        # All that the network takes for noise goes: what is given back in doubt would be learned.
        denoised = denoise(noisy, model, DenoiseOptions(strength=1.0), device=device).photo
        before, after = (_tensor(p.pixels) for p in (noisy, denoised))
        noise = estimate_noise(before, after)
        removed = block_stats(before, after)
        faint = noise is not None and min(noise.sigma(), quiet_power(removed) ** 0.5) < HARDLY_ANY
        step = quantisation_step(replace(noisy, pixels=window.pixels), removed)
        clean = faint or noise_confidence(removed, step) < TRUSTED
        looks.append(
            Look(
                window=number, denoised=denoised.pixels,
                noise=None if clean else noise, clean=clean,
            )
        )  # fmt: skip
        progress(done, count)
    return looks


def mostly_white(shots: Shots) -> bool:
    """Tell whether the noise of most windows is white, by `core.noise.is_white`."""
    white = [is_white(_tensor(window.pixels)) for window in shots.windows]
    return 2 * sum(white) > len(white)


def survey(shots: Shots, looks: Sequence[Look]) -> Survey:
    """Sum up what was seen."""
    cameras: dict[str, list[int]] = {}
    for name, iso in shots.cameras:
        if name is not None:
            isos = [*cameras.get(name, []), *([] if iso is None else [iso])]
            cameras[name] = [min(isos), max(isos)] if isos else []
    noise = [look.noise for look in looks if look.noise is not None]
    strides = sorted(model.stride() for model in noise)
    shades = [model.levels for model in noise]
    dark, mid, bright = (
        float(np.median([levels[i] for levels in shades])) if shades else 0.0 for i in (1, 4, 7)
    )
    return Survey(
        photos=len(shots.paths), found=shots.found - len(shots.skipped),
        cameras=dict(sorted(cameras.items())),
        unnamed=sum(name is None for name, _ in shots.cameras),
        levels=sorted(model.sigma() for model in noise),
        by_brightness=(dark, mid, bright),
        alike=_median(model.correlation(1) for model in noise),
        between_channels=_median(model.between_channels() for model in noise),
        clean=2 * sum(look.clean for look in looks) > len(looks),
        stride=strides[int(0.8 * (len(strides) - 1))] if strides else 1,
    )  # fmt: skip


def _tensor(pixels: Pixels) -> torch.Tensor:
    scale = 1.0 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
    return torch.from_numpy(pixels.astype(np.float32) / np.float32(scale)).permute(2, 0, 1)


def _range(isos: list[int]) -> str:
    low, high = isos
    return f"{low}" if low == high else f"{low} to {high}"


def _median(values: Iterable[float]) -> float:
    found = sorted(values)
    return found[len(found) // 2] if found else 0.0
