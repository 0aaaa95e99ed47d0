"""What `amsnet noise` says about noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from amsnet_cli.core.photo_noise import PhotoNoise, grain_of
from amsnet_cli.inference.noise_summary import ChannelNoise, DevelopedNoise, RawNoise, StackSummary
from amsnet_cli.inference.stack_noise import describe_law
from amsnet_cli.noise.sensor import SensorNoise

_WIDTH, _HEIGHT = 64, 16
"""Characters of a plot."""
_LEGEND = "· blocks of the picture, texture included   # the noise"
_TONES = (0.1, 0.5, 0.9)
"""Dark, middle and bright, in [0, 1]."""
_GRAINS = (
    (1.3, "as fine as pixels"),
    (2.5, "shared by neighbours"),
    (math.inf, "coarse blotches"),
)
"""Words for grain of at most so many pixels."""
_COLOURS = {1: ("all colours",), 3: ("red", "green", "blue")}


def as_json(summary: RawNoise | DevelopedNoise | StackSummary) -> dict[str, Any]:
    """Fields for `--json`; null for what is not known."""
    if isinstance(summary, StackSummary):
        return {
            "kind": "stack", "axes": summary.axes,
            "channels": [
                {
                    "picture": one.picture, "channel": one.channel, "pages": one.pages,
                    "a": law and law.a, "b": law and law.b, "source": one.noise.source,
                }
                for one in summary.channels
                for law in [one.noise.law]
            ],
        }  # fmt: skip
    camera = {"camera": summary.camera, "iso": summary.iso}
    if isinstance(summary, DevelopedNoise):
        grain = grain_of(summary.estimate)
        return {
            "kind": "developed", **camera, "level": summary.level, "white": summary.white,
            "by_brightness": _mean_curve(summary), "by_colour": summary.curves,
            "grain_pixels": {"luma": grain.luma} if summary.grey else
            {"luma": grain.luma, "chroma": grain.chroma},
            "chroma_over_luma": None if summary.grey else grain.chroma_share,
            "weights": summary.weights,
            "told": [
                (brightness, summary.told.at(brightness)) for brightness, _ in _mean_curve(summary)
            ],
        }  # fmt: skip
    dark, flaws = summary.dark, summary.flaws
    return {
        "kind": "mosaic", **camera, "source": summary.found.source,
        "laws": [
            {"colour": colour, "a": float(law.a), "b": float(law.b), **_in_units(law, summary)}
            for colour, law in _laws(summary)
        ],
        "masked_borders": dark
        and {"b": dark.variance, "black_error_steps": dark.black * summary.range},
        "defects": int(flaws.defects.sum()),
        "row_noise_steps": _spread(flaws.rows, summary),
        "column_noise_steps": _spread(flaws.columns, summary),
    }  # fmt: skip


def lines(summary: RawNoise | DevelopedNoise | StackSummary) -> Iterator[str]:
    """Lines for people."""
    if isinstance(summary, StackSummary):
        yield f"stack of {summary.axes or '1 page'}; variance by the values x of the file"
        if not summary.channels:
            yield "its pages have colours: denoised as photos"
        for one in summary.channels:
            yield f"{one.name}{': ' * bool(one.name)}{_of_channel(one)}"
        return
    yield f"{summary.camera or 'unknown camera'}, ISO {summary.iso or 'unknown'}"
    if isinstance(summary, DevelopedNoise):
        yield from _of_developed(summary)
        return
    yield f"known from: {summary.found.source}"
    steps = f"{summary.range:.0f} steps of the file"
    yield f"variance a x + b, with x from 0 at black to 1 at white, {steps}"
    for colour, law in _laws(summary):
        units = _in_units(law, summary)
        yield (
            f"{colour}: a {float(law.a):.3g}, b {float(law.b):.3g}; white is "
            f"{units['electrons_at_white']:.0f} electrons, noise in the dark "
            f"{units['dark_electrons']:.1f} electrons or {units['dark_steps']:.2f} steps"
        )
    if summary.dark:
        error = summary.dark.black * summary.range
        yield f"masked borders: b {summary.dark.variance:.3g}, {error:+.2f} steps from black"
    yield f"hot and dead photosites: {int(summary.flaws.defects.sum())}"
    for name, line in (("rows", summary.flaws.rows), ("columns", summary.flaws.columns)):
        spread = _spread(line, summary)
        yield f"noise of {name}: {'none' if spread is None else f'{spread:.2f} steps'}"


def _of_developed(summary: DevelopedNoise) -> Iterator[str]:
    yield f"noise {summary.level:.1f} on a scale of 255{', white' if summary.white else ''}"
    curves = summary.curves
    yield f"{'at brightness':>13}" + "".join(f"{name:>7}" for name in curves)
    for row in zip(*curves.values(), strict=True):
        yield f"{255 * row[0][0]:13.0f}" + "".join(f"{sigma:7.1f}" for _, sigma in row)
    grain = grain_of(summary.estimate)
    yield f"luminance noise: {_grain(grain.luma)}"
    if not summary.grey:
        yield (
            f"colour noise: {_grain(grain.chroma)}; {grain.chroma_share:.1f} times as strong as "
            "that of luminance"
        )
    yield f"denoise tells the weights {summary.weights}: {by_tones(summary.told)}"


def by_tones(noise: PhotoNoise) -> str:
    """Name the standard deviation in dark, middle and bright tones, on a scale of 255."""
    dark, middle, bright = (f"{noise.at(x):.1f}" for x in _TONES)
    return f"{dark} in dark, {middle} in middle, {bright} in bright tones"


def _grain(side: float) -> str:
    for most, words in _GRAINS:
        if side <= most:
            return f"{words}, about {max(side, 1):.1f} pixels wide"
    raise AssertionError(side)


def _mean_curve(summary: DevelopedNoise) -> list[tuple[float, float]]:
    """Brightness and standard deviation, mean over the colours."""
    rows = list(zip(*summary.curves.values(), strict=True))
    return [(row[0][0], sum(sigma for _, sigma in row) / len(row)) for row in rows]


def _of_channel(channel: ChannelNoise) -> str:
    law = channel.noise.law
    if law is None:
        return f"{channel.noise.source} its noise"
    electrons = f"; {1 / law.a:.3g} electrons per unit" if law.a else "; it does not grow with x"
    return f"variance {describe_law(law)} ({channel.noise.source}){electrons}"


def plot_of(summary: RawNoise | DevelopedNoise | StackSummary) -> str:
    """Return a plot of variance against brightness; empty if nothing was measured."""
    if isinstance(summary, StackSummary):
        return "\n".join(filter(None, map(_plot_of_channel, summary.channels)))
    if isinstance(summary, DevelopedNoise):
        curves = [
            [(x, (sigma / 255) ** 2) for x, sigma in curve] for curve in summary.curves.values()
        ]
        return plot([], curves)
    blocks = summary.blocks
    if blocks is None or not len(blocks.light):
        return ""
    points = list(zip(blocks.light.tolist(), blocks.variance.tolist(), strict=True))
    light = torch.linspace(0, 1, _WIDTH)
    curves = [
        list(zip(light.tolist(), law.variance(light).tolist(), strict=True))
        for _, law in _laws(summary)
    ]
    return f"{plot(points, curves)}\n{_LEGEND}"


def _plot_of_channel(channel: ChannelNoise) -> str:
    blocks, law = channel.blocks, channel.noise.law
    if blocks is None or law is None or not len(blocks):
        return ""
    low, high = float(blocks[:, 0].min()), float(blocks[:, 0].max())
    span = high - low or 1.0
    points = [((x - low) / span, v) for x, v in blocks.tolist()]
    light = torch.linspace(0, 1, _WIDTH).double()
    curve = list(zip(light.tolist(), law.variance(low + span * light).tolist(), strict=True))
    drawn = plot(points, [curve], ends=(f"{low:.4g}", f"{high:.4g}"))
    return f"{channel.name}{chr(10) * bool(channel.name)}{drawn}\n{_LEGEND}"


def plot(
    points: Sequence[tuple[float, float]],
    curves: Sequence[Sequence[tuple[float, float]]],
    ends: tuple[str, str] = ("0", "1"),
) -> str:
    """Draw variances against brightness with characters: brightness 0 to 1, variance by powers.

    Args:
        points: brightness and variance, drawn as dots.
        curves: likewise, drawn as a line above them.
        ends: what brightness 0 and 1 are called.
    """
    drawn = [(x, v, "#") for curve in curves for x, v in curve]
    drawn = [(x, v, "·") for x, v in points] + drawn
    drawn = [(x, v, mark) for x, v, mark in drawn if 0 <= x <= 1 and v > 0]
    if not drawn:
        return ""
    logs = [math.log10(v) for _, v, _ in drawn]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    high = max(high, low + 1)
    grid = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for (x, _, mark), log in zip(drawn, logs, strict=True):
        row = round((high - log) / (high - low) * (_HEIGHT - 1))
        grid[row][min(int(x * _WIDTH), _WIDTH - 1)] = mark
    labels = {round(k / (high - low) * (_HEIGHT - 1)): high - k for k in range(high - low + 1)}
    rows = [
        f"{f'1e{labels[i]}' if i in labels else '':>6} |{''.join(row).rstrip()}"
        for i, row in enumerate(grid)
    ]
    between = _WIDTH - len(ends[0]) - len(ends[1])
    axis = f"{'':>6} +{'-' * _WIDTH}\n{'':>8}{ends[0]}{'brightness':^{between}}{ends[1]}"
    return "variance\n" + "\n".join([*rows, axis])


def _laws(summary: RawNoise) -> list[tuple[str, SensorNoise]]:
    laws = summary.found.laws
    return list(zip(_COLOURS[len(laws)], laws, strict=True))


def _in_units(law: SensorNoise, summary: RawNoise) -> dict[str, float]:
    a, b = float(law.a), float(law.b)
    return {
        "electrons_at_white": 1 / a,
        "electrons_per_step": 1 / (a * summary.range),
        "dark_electrons": math.sqrt(b) / a,
        "dark_steps": math.sqrt(b) * summary.range,
    }


def _spread(line: Any, summary: RawNoise) -> float | None:
    return None if line is None else float(line.std()) * summary.range
