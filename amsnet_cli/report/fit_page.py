"""The page a fit ends with: its curve, what it changed, and photos before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amsnet_cli.report.comparison import ComparedCrop, Comparison
from amsnet_cli.report.curve import CURVE_COLUMNS, CurvePoint, curve_figure, curve_rows
from amsnet_cli.report.html import (
    NOISE_NOTE,
    crop_row,
    escape,
    level,
    section,
    settings_table,
    table,
    write_page,
)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Where the results of a fitted model and of its start differ most.

    Attributes:
        photo: name.
        noise: estimated noise level of the photo, of the start's result and of the fitted model's,
            on a scale of 255; nan where there is none.
        amplification: factor of the difference.
        crop: the start's result, the fitted model's, and their difference.
    """

    photo: str
    noise: tuple[float, float, float]
    amplification: int
    crop: ComparedCrop


def write_fit_page(
    path: Path,
    *,
    title: str,
    about: Sequence[str],
    settings: Sequence[tuple[str, str]],
    curve: Sequence[CurvePoint],
    comparisons: Sequence[tuple[str, Comparison]],
    expected: CurvePoint | None = None,
    start: str = "",
    differences: Sequence[Difference] = (),
) -> None:
    """Write the page of a fit, whole or not at all.

    Args:
        path: of the page.
        title: plain text.
        about: paragraphs that describe the photos and the result of the fit.
        settings: names and values.
        curve: in the order of the steps.
        comparisons: photos before and after with their names; those without pictures are only
            listed.
        expected: what more steps would bring.
        start: name of the model that the fit started from; plain text.
        differences: between its results and the fitted model's.

    Raises:
        OutputError: it cannot be written.
    """
    parts = [f"<p>{escape(paragraph)}</p>" for paragraph in about]
    parts += [
        curve_figure(curve, expected),
        "<details><summary>The curve in numbers</summary>",
        table(CURVE_COLUMNS, curve_rows(curve)), "</details>",
        "<h2>Settings</h2>", settings_table(settings),
    ]  # fmt: skip
    if differences:
        parts += _differences(escape(start), differences)
    if comparisons:
        parts += ["<h2>Before and after</h2>", NOISE_NOTE]
    for number, (name, comparison) in enumerate(comparisons):
        parts.append(section(number, escape(name), "", comparison))
    write_page(path, title, parts)


def _differences(start: str, differences: Sequence[Difference]) -> list[str]:
    rows = [
        f'<tr><th scope="row">{escape(d.photo)}</th>'
        f"{''.join(f'<td>{level(noise)}</td>' for noise in d.noise)}</tr>"
        for d in differences
    ]
    heads = ("photo", "noise", f"after {start}", "after the fitted model")
    crops = [
        crop_row(escape(d.photo), d.crop, d.amplification, (start, "fitted")) for d in differences
    ]
    return [f"<h2>Fitted, against {start}</h2>", NOISE_NOTE, table(heads, rows), *crops]
