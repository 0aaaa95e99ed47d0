"""The validation curve of a fit, as an SVG figure and as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CURVE_COLUMNS = ("step", "validation loss", "improvement", "standard error")


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """A validation loss.

    Attributes:
        step: optimizer steps taken.
        loss: mean over the validation patches.
        improvement: how far it is below the start's, as a fraction of that.
        standard_error: of the improvement, patches compared one by one.
    """

    step: int
    loss: float
    improvement: float
    standard_error: float


def curve_figure(curve: Sequence[CurvePoint], expected: CurvePoint | None = None) -> str:
    """Return an HTML figure: improvement against steps, with a band of two standard errors.

    Args:
        curve: in the order of the steps.
        expected: after more steps; the line to it is dashed.

    Only the range from -100 % to 100 % is drawn. Lengths across are percentages of the figure's
    width and lengths down of its height, so that text and lines keep their size on any screen.
    """
    known = [point for point in curve if math.isfinite(point.improvement)]
    if not known:
        return "<p>No improvement was measured.</p>"
    last = known[-1]
    ahead = [last, expected] if expected else []
    max_step = max(1, *(point.step for point in [*known, *ahead]))
    low_ends, high_ends = (
        [p.improvement + side * _finite(p.standard_error) for p in [*known, *ahead]]
        for side in (-2, 2)
    )
    ticks = _ticks(max(-1.0, min(0.0, *low_ends)), min(1.0, max(0.0, *high_ends)))
    low, high = ticks[0], ticks[-1]

    def x(step: int) -> str:
        return f"{100 * step / max_step:.2f}"

    def y(improvement: float) -> str:
        return f"{100 * (high - min(high, max(low, improvement))) / (high - low):.2f}"

    def path(points: Sequence[CurvePoint], errors: int = 0) -> list[str]:
        values = [p.improvement + errors * _finite(p.standard_error) for p in points]
        return [f"{x(p.step)} {y(value)}" for p, value in zip(points, values, strict=True)]

    def band(points: Sequence[CurvePoint]) -> str:
        outline = " L".join(path(points, 2) + path(points, -2)[::-1])
        return f'<path class="band" d="M{outline} Z"/>'

    grid = "\n".join(
        f'<line x1="0" x2="100%" y1="{y(tick)}%" y2="{y(tick)}%"/>'
        f'<text x="-8" y="{y(tick)}%" dy=".3em" text-anchor="end">{_percent(tick)}</text>'
        for tick in ticks
    )
    step_labels = "\n".join(
        f'<text x="{x(step)}%" y="100%" dy="1.5em" text-anchor="{anchor}">{step:,}</text>'
        for step, anchor in ((0, "start"), (max_step, "end"))
    )
    summary = f"{_percent(last.improvement)} at step {last.step:,}"
    if math.isfinite(last.standard_error):
        summary += f", with a standard error of {_percent(last.standard_error).lstrip('+')}"
    further = more = ""
    if expected:
        further = f'\n{band(ahead)}\n<path class="expected" d="M{" L".join(path(ahead))}"/>'
        more = (
            f"\nDashed: what is expected of as many steps again, {_percent(expected.improvement)}."
        )
    return f"""<figure class="curve">
<div><svg role="img" aria-label="Improvement against steps: {summary}">
<text x="-8" y="0" dy="-1em" text-anchor="end">improvement</text>
{grid}
{step_labels}
<text x="50%" y="100%" dy="2.9em" text-anchor="middle">steps</text>
<line class="zero" x1="0" x2="100%" y1="{y(0)}%" y2="{y(0)}%"/>
<svg viewBox="0 0 100 100" preserveAspectRatio="none">
{band(known)}
<path d="M{" L".join(path(known))}"/>{further}
</svg>
<circle cx="{x(last.step)}%" cy="{y(last.improvement)}%" r="4"/>
</svg></div>
<figcaption>Improvement of the validation loss over the start, with a band of two standard errors.
{summary[0].upper()}{summary[1:]}.{more}</figcaption>
</figure>"""


def curve_rows(curve: Sequence[CurvePoint]) -> list[str]:
    """Return HTML table rows, of `CURVE_COLUMNS`."""
    return [
        f"<tr><td>{p.step:,}</td><td>{f'{p.loss:.5g}'.replace('nan', '–')}</td>"
        f"<td>{_percent(p.improvement)}</td><td>{_percent(p.standard_error).lstrip('+')}</td></tr>"
        for p in curve
    ]


def _finite(x: float) -> float:
    return x if math.isfinite(x) else 0.0


def _percent(fraction: float) -> str:
    if not math.isfinite(fraction):
        return "–"
    return f"{100 * fraction + 0.0:+.3g} %".replace("+0 %", "0 %")


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers from at most `low` to at least `high`, 0 among them."""
    least = max(high - low, 1e-4) / 5
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= least)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [k * step for k in range(first, max(last, first + 1) + 1)]
