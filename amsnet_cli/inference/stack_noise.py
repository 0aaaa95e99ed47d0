"""What noise the pages of a stack have: as they show it, and as the user or the file says."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amsnet_cli.noise.counts import CountsNoise, estimate_counts_noise
from amsnet_cli.photos.geometry import window_starts
from amsnet_cli.stacks.block import blocks_of
from amsnet_cli.stacks.stack import Page, Stack

RUNS = 4
"""Places of a stack at which its noise is measured, two pages each."""
WINDOW, WINDOWS = 512, 3
"""Side in pixels, and number along each side, of the windows of a large page that are measured."""
FAR = 1e5
"""Median deviations from the median from which a value is no light, but stands for something."""
SATURATED = 1e-3
"""Share of the pixels with the greatest value from which it may be that of saturation."""
LEAST_VARIANCE = 1 / 12
"""Of stored integers, by rounding; a law of less is none of noise."""
DARK_PAGES = 16
"""Dark frames that are looked at."""
HOT = 6.0
"""Standard deviations from which a pixel of a dark frame is hot."""
BELIEVABLE = (0.5, 2.0)
"""Ratio of the variance that a header claims to the measured one, within which it is believed:
GAIN is also what cameras call a setting without a unit."""


@dataclass(frozen=True, kw_only=True)
class Detector:
    """What is known of a detector.

    Attributes:
        gain: electrons per unit of the stored values.
        read_noise: in electrons.
        dark: mean and variance of the stored values without light; the variance is nan if it is
            not known.
    """

    gain: float | None = None
    read_noise: float | None = None
    dark: tuple[float, float] | None = None

    def numbers(self) -> tuple[float, ...]:
        """Return all that is known, nan for what is not."""
        known = (self.gain, self.read_noise, *(self.dark or (None, None)))
        return tuple(math.nan if number is None else number for number in known)


@dataclass(frozen=True, kw_only=True)
class StackNoise:
    """The noise of the pages of a group.

    Attributes:
        law: None where it can neither be measured nor is known.
        source: how it is known, for people.
    """

    law: CountsNoise | None
    source: str


def stack_noise(stack: Stack, pages: Sequence[int], detector: Detector) -> StackNoise:
    """Find the noise of some pages of one group.

    Args:
        stack: the file.
        pages: of the group, grey ones.
        detector: what the user says; else the file's header is asked, and believed where the pages
            agree.
    """
    runs = frames_of(stack, pages)
    said = detector != Detector()
    if said:
        law = _with_known(runs, detector)
        return StackNoise(law=law, source="given" if law else "too little to measure")
    measured = estimate_counts_noise(runs)
    header = stack.header_noise(pages[0])
    if "gain" in header and measured:
        a = 1 / header["gain"]
        stated = CountsNoise(a=a, b=(header.get("read_noise", 0.0) * a) ** 2)
        if _agree(stated, measured, runs):
            return StackNoise(law=stated, source="gain of the header")
    if measured and stack.pages[pages[0]].dtype.kind in "iu":
        strongest = max(
            float(measured.variance(frame.nanmedian())) for run in runs for frame in run
        )
        measured = measured if strongest >= LEAST_VARIANCE else None
    return StackNoise(law=measured, source="measured" if measured else "too little to measure")


def frames_of(stack: Stack, pages: Sequence[int]) -> list[Sequence[Tensor]]:
    """Return what is measured of some pages of one group, as `estimate_counts_noise` takes it."""
    runs: list[Sequence[Tensor]] = []
    for run in _runs(stack, pages):
        runs += zip(*_frames(stack, run), strict=True)
    return runs


def grey_groups(stack: Stack, pages: Sequence[int]) -> dict[tuple[int, ...], list[int]]:
    """Return the grey ones of some pages by their group."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index in pages:
        if len(stack.pages[index].shape) == 2:
            groups.setdefault(stack.pages[index].group, []).append(index)
    return groups


def group_names(groups: Collection[tuple[int, ...]]) -> dict[tuple[int, ...], str]:
    """Return what people call groups; nothing if there is only one."""
    if len(groups) == 1:
        return dict.fromkeys(groups, "")
    several = len({picture for picture, *_ in groups}) > 1
    return {
        group: f"{f'picture {group[0] + 1}, ' * several}channel {group[1] + 1}" for group in groups
    }


def describe_law(law: CountsNoise) -> str:
    """Return a law as people write it."""
    return f"{law.a:.3g} x {'-' if law.b < 0 else '+'} {abs(law.b):.3g}"


def dark_of(pages: Sequence[Page]) -> tuple[float, float]:
    """Return mean and variance of dark frames.

    The variance is that between frames, or within the only one. Hot pixels, which are further away
    than `HOT` standard deviations, do not count.
    """
    frames = [page.astype(np.float64) for page in pages[:DARK_PAGES]]
    level = float(np.mean([np.median(frame) for frame in frames]))
    spreads = [(after - before) / np.sqrt(2) for before, after in pairwise(frames)] or frames
    variances = []
    for spread in spreads:
        away = np.abs(spread - np.median(spread))
        # Of integers, most may have the same value.
        limit = HOT * max(1.0, float(np.median(away)) * 1.4826)
        variances.append(np.var(spread[away <= limit]))
    return level, float(np.mean(variances))


def _with_known(runs: list[Sequence[Tensor]], detector: Detector) -> CountsNoise | None:
    a = None if detector.gain is None else 1 / detector.gain
    dark = detector.dark
    if dark is not None and np.isnan(dark[1]):
        dark = None
        if detector.read_noise is not None and a is not None and detector.dark is not None:
            dark = detector.dark[0], (detector.read_noise * a) ** 2
    if detector.dark is None and detector.read_noise is not None and a is not None:
        # Without a pedestal, unless the pages say otherwise.
        free = estimate_counts_noise(runs, a=a)
        stated = CountsNoise(a=a, b=(detector.read_noise * a) ** 2)
        return stated if free is None or _agree(stated, free, runs) else free
    found = estimate_counts_noise(runs, a=a, dark=dark)
    if found is None and a is not None and dark is not None:
        return CountsNoise(a=a, b=dark[1] - a * dark[0])
    return found


def _agree(stated: CountsNoise, measured: CountsNoise, runs: list[Sequence[Tensor]]) -> bool:
    """Return whether two laws give about the same variance at the median of the pages."""
    values = torch.cat([frame[frame.isfinite()][:: max(1, frame.numel() // 4096)] for run in runs
                        for frame in run])  # fmt: skip
    light = values.median()
    ratio = float(stated.variance(light) / measured.variance(light).clamp_min(1e-300))
    return BELIEVABLE[0] < ratio < BELIEVABLE[1]


def _runs(stack: Stack, pages: Sequence[int]) -> list[tuple[int, ...]]:
    """Pick pages evenly, each with the one before it where there is one."""
    picked = [pages[i * len(pages) // min(RUNS, len(pages))] for i in range(min(RUNS, len(pages)))]
    runs: list[tuple[int, ...]] = []
    for page in dict.fromkeys(picked):
        before = stack.pages[page].follows
        after = next((p for p in pages if stack.pages[p].follows == page), None)
        run = (page, after) if after is not None else (before, page)
        runs.append(tuple(p for p in run if p is not None))
    return runs


def _frames(stack: Stack, run: Sequence[int]) -> list[list[Tensor]]:
    """Read the windows of the pages of a run; the same windows of each."""
    return [
        [torch.from_numpy(light_alone(window)) for window in _windows(stack, index)]
        for index in run
    ]


def _windows(stack: Stack, index: int) -> Iterator[Page]:
    kind = stack.pages[index]
    whole = stack.read(index) if len(blocks_of(index, kind)) == 1 else None
    height, width = kind.shape
    for top in window_starts(height, WINDOW, WINDOWS):
        for left in window_starts(width, WINDOW, WINDOWS):
            part = slice(top, top + WINDOW), slice(left, left + WINDOW)
            yield stack.read_part(index, *part) if whole is None else whole[part]


def light_alone(page: Page) -> NDArray[np.float64]:
    """Return values in which what is no light is NaN: gaps, codes far away, saturation."""
    values = page.astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    if np.isnan(values).all():
        return values
    away = np.abs(values - np.nanmedian(values))
    spread = float(np.nanmedian(away))
    if spread > 0:
        values[away > FAR * spread] = np.nan
    found, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    # Clipped light piles up at the greatest value, while that of noise is rare.
    if len(found) > 1 and counts[-1] > max(counts[-2], SATURATED * counts.sum()):
        values[values == found[-1]] = np.nan
    return values
