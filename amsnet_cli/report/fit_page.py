"""The page a fit ends with: its curve, its settings, and photos before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from amsnet_cli.report.comparison import Comparison
from amsnet_cli.report.curve import CURVE_COLUMNS, CurvePoint, curve_figure, curve_rows
from amsnet_cli.report.html import (
    NOISE_NOTE,
    escape,
    section,
    settings_table,
    table,
    write_page,
)


def write_fit_page(
    path: Path,
    *,
    title: str,
    about: Sequence[str],
    settings: Sequence[tuple[str, str]],
    curve: Sequence[CurvePoint],
    comparisons: Sequence[tuple[str, Comparison]],
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

    Raises:
        OutputError: it cannot be written.
    """
    parts = [f"<p>{escape(paragraph)}</p>" for paragraph in about]
    parts += [
        curve_figure(curve),
        "<details><summary>The curve in numbers</summary>",
        table(CURVE_COLUMNS, curve_rows(curve)), "</details>",
        "<h2>Settings</h2>", settings_table(settings),
    ]  # fmt: skip
    if comparisons:
        parts += ["<h2>Before and after</h2>", NOISE_NOTE]
    for number, (name, comparison) in enumerate(comparisons):
        parts.append(section(number, escape(name), "", comparison))
    write_page(path, title, parts)
