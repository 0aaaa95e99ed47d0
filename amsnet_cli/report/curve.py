"""The curve of a fit: gain over steps, as a figure and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from amsnet_cli.report.html import table


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """What a fit had reached at a step, as measured on what is held out.

    Attributes:
        step: how many had been made.
        loss: held-out loss, mean over its patches.
        gain: share by which that is below the start's.
        error: standard error of the gain, patches compared one by one.
    """

    step: int
    loss: float
    gain: float
    error: float


def figure(curve: Sequence[CurvePoint]) -> str:
    """Draw the gain against the steps, with a band of two standard errors, and list it.

    Only the range from -100 % to 100 % is drawn. Lengths across are shares of the figure's width
    and lengths down of its height, so that text and lines keep their size on any screen.
    """
    known = [point for point in curve if math.isfinite(point.gain)]
    if not known:
        return "<p>No gain was measured.</p>"
    final, last_step = known[-1], max(1, *(point.step for point in known))
    bands = [2 * p.error if math.isfinite(p.error) else 0.0 for p in known]
    lowest = max(-1.0, min(0.0, *(p.gain - b for p, b in zip(known, bands, strict=True))))
    highest = min(1.0, max(0.0, *(p.gain + b for p, b in zip(known, bands, strict=True))))
    ticks = _ticks(lowest, highest)
    low, high = ticks[0], ticks[-1]

    def x(step: int) -> str:
        return f"{100 * step / last_step:.2f}"

    def y(gain: float) -> str:
        return f"{100 * (high - min(high, max(low, gain))) / (high - low):.2f}"

    lines = "\n".join(
        f'<line x1="0" x2="100%" y1="{y(tick)}%" y2="{y(tick)}%"/>'
        f'<text x="-8" y="{y(tick)}%" dy=".3em" text-anchor="end">{_percent(tick)}</text>'
        for tick in ticks
    )
    across = "\n".join(
        f'<text x="{x(step)}%" y="100%" dy="1.5em" text-anchor="{anchor}">{step:,}</text>'
        for step, anchor in ((0, "start"), (last_step, "end"))
    )
    middle, upper, lower = (
        [f"{x(p.step)} {y(p.gain + k * b)}" for p, b in zip(known, bands, strict=True)]
        for k in (0, 1, -1)
    )
    said = f"{_percent(final.gain)} at step {final.step:,}"
    if math.isfinite(final.error):
        said += f", with a standard error of {_percent(final.error).lstrip('+')}"
    rows = [
        f"<tr><td>{p.step:,}</td><td>{f'{p.loss:.5g}'.replace('nan', '–')}</td>"
        f"<td>{_percent(p.gain)}</td><td>{_percent(p.error).lstrip('+')}</td></tr>"
        for p in curve
    ]
    return f"""<figure class="curve">
<div><svg role="img" aria-label="Gain against steps: {said}">
<text x="-8" y="0" dy="-1em" text-anchor="end">gain</text>
{lines}
{across}
<text x="50%" y="100%" dy="2.9em" text-anchor="middle">steps</text>
<line class="zero" x1="0" x2="100%" y1="{y(0)}%" y2="{y(0)}%"/>
<svg viewBox="0 0 100 100" preserveAspectRatio="none">
<path class="band" d="M{" L".join(upper + lower[::-1])} Z"/>
<path d="M{" L".join(middle)}"/>
</svg>
<circle cx="{x(final.step)}%" cy="{y(final.gain)}%" r="4"/>
</svg></div>
<figcaption>Gain: how far the loss on held-out pixels has fallen below the start's, and a band of
two standard errors. {said[0].upper()}{said[1:]}.</figcaption>
</figure>
<details><summary>The curve in numbers</summary>
{table(("step", "loss", "gain", "standard error"), rows)}
</details>"""


def _percent(share: float) -> str:
    return f"{100 * share + 0.0:+.3g} %".replace("+0 %", "0 %") if math.isfinite(share) else "–"


def _ticks(low: float, high: float) -> list[float]:
    """Choose round numbers from at most `low` to at least `high`, 0 among them."""
    least = max(high - low, 1e-4) / 5
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= least)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [k * step for k in range(first, max(last, first + 1) + 1)]
