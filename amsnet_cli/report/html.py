"""Pages in HTML: a table of all photos and a slider, crops and residual for each one shown."""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from amsnet_cli.atomic import write_output
from amsnet_cli.errors import OutputError
from amsnet_cli.report.comparison import ComparedCrop, Comparison, overview_size
from amsnet_cli.weights.store import PAGE_MARK

MAX_SHOWN = 40
"""Photos shown with pictures; more are only listed, so that a browser can open the page."""

NOISE_NOTE = (
    "<p>Noise is estimated where a picture is flattest, as the standard deviation on a scale of "
    "255.</p>"
)


@dataclass(frozen=True, kw_only=True)
class ReportEntry:
    """A photo on a page.

    Attributes:
        source: the photo.
        target: its denoised version.
        comparison: of the two; None if denoising failed.
        error: why it failed.
        seconds: how long it took; None if unknown.
        weights: what denoised it; empty if unknown.
    """

    source: Path
    target: Path
    comparison: Comparison | None = None
    error: str = ""
    seconds: float | None = None
    weights: str = ""


def check_report(path: Path, *, force: bool) -> None:
    """Check before any work that a page can be written. An earlier page may be replaced.

    Raises:
        OutputError: it cannot, or another file exists there and `force` is not set.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{path}: not the name of an HTML page", "add .html")
    try:
        if path.is_dir() or not path.parent.is_dir():
            raise OutputError(f"{path}: not a file in an existing folder", "name such a file")
        if path.exists() and not force:
            with path.open("rb") as file:
                if file.read(len(PAGE_MARK)) != PAGE_MARK:
                    raise OutputError(f"{path}: already exists", "overwrite it with --force")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path.parent}: the folder is read-only", "choose another")


def write_report(
    path: Path, entries: Sequence[ReportEntry], about: str, settings: str = ""
) -> None:
    """Write a page, whole or not at all.

    Args:
        path: of the page.
        entries: photos in the order in which they are shown.
        about: a line on how they were made.
        settings: HTML of the last section, see `report.settings`.

    Raises:
        OutputError: it cannot be written.
    """
    shown = [i for i, entry in enumerate(entries) if entry.comparison and entry.comparison.crops]
    compared = sum(entry.comparison is not None for entry in entries)
    if compared > len(shown):
        about += f" The first {len(shown)} of {compared} are shown."
    rows = [_row(i, entry, linked=i in shown) for i, entry in enumerate(entries)]
    heads = ("photo", "pixels", "file before", "after", "time", "noise before", "after")
    parts = [f"<p>{escape(about)}</p>", table(heads, rows), NOISE_NOTE]
    for number in shown:
        entry = entries[number]
        by = f", by {entry.weights}" if entry.weights else ""
        line = f"{escape(entry.source)} → {escape(entry.target)}{escape(by)}."
        assert entry.comparison is not None
        parts.append(section(number, escape(entry.source.name), line, entry.comparison))
    write_page(path, "Before and after", [*parts, settings])


def write_page(path: Path, title: str, parts: Sequence[str]) -> None:
    """Fill the page's template and write it, whole or not at all.

    Args:
        path: of the page.
        title: plain text.
        parts: HTML of the body.

    Raises:
        OutputError: it cannot be written.
    """
    write_output(path, page_html(title, parts).encode(), hint="choose another place")


def page_html(title: str, parts: Sequence[str], *, served: bool = False) -> str:
    """Fill the page's template.

    Args:
        title: plain text.
        parts: HTML of the body.
        served: whether its scripts may ask the server that it comes from.
    """
    template = resources.files("amsnet_cli.report").joinpath("templates/page.html")
    return Template(template.read_text("utf-8")).substitute(
        title=escape(title), body="\n".join(parts), connect="'self'" if served else "'none'"
    )


def section(number: int, name: str, about: str, comparison: Comparison) -> str:
    """Return the HTML that shows a photo; name and text are escaped already."""
    about += f" Noise {level(comparison.noise[0])} before, {level(comparison.noise[1])} after."
    head = f'<section id="photo-{number}">\n<h2>{name}</h2>\n<p>{about.strip()}</p>'
    if not comparison.crops:
        return f"{head}\n</section>"
    width, height = overview_size(comparison.size)
    sides = f'width="{width}" height="{height}"'
    scale = 100 * width / comparison.size[0]
    crops = "\n".join(crop_row(name, crop, comparison.amplification) for crop in comparison.crops)
    return f"""{head}
<figure>
<div class="slider">
<img class="after" src="{_uri(comparison.denoised)}" {sides} alt="{name}, denoised">
<img class="before" src="{_uri(comparison.noisy)}" {sides} alt="{name}, noisy">
<input type="range" min="0" max="100" step="0.5" value="50"
 aria-label="Share of {name} that is shown noisy, in percent from the left">
</div>
<figcaption>Noisy on the left, denoised on the right, at {scale:.0f} %: drag, or use the arrow keys.
</figcaption>
</figure>
{crops}
</section>"""


def crop_row(
    name: str,
    crop: ComparedCrop,
    amplification: int,
    versions: tuple[str, str] = ("noisy", "denoised"),
) -> str:
    """Return the HTML that shows a part of two versions of a photo, and their difference.

    Args:
        name: of the photo, escaped.
        crop: the part.
        amplification: of the difference.
        versions: what the two are called, escaped.
    """
    place = f"{crop.left},{crop.top}"
    first, second = versions
    difference = "residual" if versions == ("noisy", "denoised") else "difference"
    residual = f"{difference}: {first} minus {second}, times {amplification}, grey is zero"
    figures = "\n".join(
        f'<figure><div><img src="{_uri(image)}" loading="lazy" alt="{name} at {place}, {what}">'
        f"</div><figcaption>{what}</figcaption></figure>"
        for image, what in (
            (crop.noisy, f"{first}, 100 %, {crop.reason} ({place})"),
            (crop.denoised, second),
            (crop.residual, residual),
        )
    )
    return f'<div class="crops">\n{figures}\n</div>'


def table(heads: Sequence[str], rows: Sequence[str]) -> str:
    """Return the HTML of a table.

    Args:
        heads: HTML of the column heads; none for a table without a head.
        rows: HTML of the rows.
    """
    cells = "".join(f'<th scope="col">{head}</th>' for head in heads)
    head = f"<thead><tr>{cells}</tr></thead>\n" if heads else ""
    body = "\n".join(rows)
    return f'<div class="wide"><table>\n{head}<tbody>\n{body}\n</tbody></table></div>'


def settings_table(settings: Sequence[tuple[str, str]]) -> str:
    """Return the HTML of a table of names and values, which are plain text."""
    rows = [
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in settings
    ]
    return f'<div class="settings">{table((), rows)}</div>'


def level(noise: float) -> str:
    """Write a noise level, or a dash for nan."""
    return "–" if math.isnan(noise) else f"{noise:.1f}"


def escape(text: str | Path) -> str:
    """Escape text for HTML; names that are no valid text get replacement characters."""
    return html.escape(os.fsencode(text).decode("utf-8", "replace"))


def _row(number: int, entry: ReportEntry, *, linked: bool) -> str:
    name = escape(entry.source)
    title = f'<a href="#photo-{number}">{name}</a>' if linked else name
    if entry.comparison is None:
        error = escape(entry.error)
        return f'<tr><td>{title}</td><td class="failed" colspan="6">{error}</td></tr>'
    width, height = entry.comparison.size
    both_exist = entry.source.exists() and entry.target.exists()
    in_place = both_exist and entry.source.samefile(entry.target)
    cells = [
        f"{width}×{height}", "–" if in_place else _megabytes(entry.source),
        _megabytes(entry.target), "–" if entry.seconds is None else f"{entry.seconds:.1f} s",
        *map(level, entry.comparison.noise),
    ]  # fmt: skip
    return f"<tr><td>{title}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _megabytes(path: Path) -> str:
    try:
        return f"{path.stat().st_size / 1e6:.2f} MB"
    except OSError:  # It came or went through a pipe.
        return "–"
