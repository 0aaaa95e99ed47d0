"""A page that shows photos before and after, in one file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amsnet_cli.atomic import write_whole
from amsnet_cli.errors import OutputError, PhotoError
from amsnet_cli.inference.photo_noise import photo_noise_level
from amsnet_cli.photos.geometry import upright, window_starts
from amsnet_cli.photos.photo import Photo, Pixels
from amsnet_cli.report.curve import CURVE_COLUMNS, CurvePoint, curve_figure, curve_rows
from amsnet_cli.weights.store import PAGE_MARK

OVERVIEW = 1280
"""Longest side of the whole picture as shown, in pixels."""
CROP = 288
"""Side of a crop at 100 %, in pixels."""
MOST_SHOWN = 40
"""Photos shown with pictures; more are only listed, so that the page stays small enough to open."""

_FACTORS = (32, 16, 8, 4, 2, 1)
_CANDIDATES = 12
_NOISE = (
    "<p>Noise is estimated where a picture is flattest, as the standard deviation on a scale of "
    "255.</p>"
)


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A part of a photo at full size, as JPEG files.

    Attributes:
        left: of the upright picture, in pixels.
        top: likewise.
        reason: why this part is shown.
        noisy: before.
        denoised: after.
        removed: the difference, amplified, around mid-grey.
    """

    left: int
    top: int
    reason: str
    noisy: bytes
    denoised: bytes
    removed: bytes


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a page shows of a photo.

    Attributes:
        size: width and height of the upright picture.
        noise: estimated before and after, on a scale of 255; nan where it cannot be.
        noisy: the whole picture, reduced, as a JPEG file; empty if it is not shown.
        denoised: likewise.
        factor: by which the removed noise is amplified in the crops.
        crops: the smoothest place, the most detailed, and the one that changed most.
    """

    size: tuple[int, int]
    noise: tuple[float, float]
    noisy: bytes = b""
    denoised: bytes = b""
    factor: int = 1
    crops: list[Crop] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A photo on a page.

    Attributes:
        source: the photo.
        target: its denoised version.
        look: None if it failed.
        error: why it failed.
        seconds: how long it took, None if that is not known.
        weights: what denoised it, empty if that is not known.
    """

    source: Path
    target: Path
    look: Look | None = None
    error: str = ""
    seconds: float | None = None
    weights: str = ""


def look_at(noisy: Photo, denoised: Photo, *, pictures: bool = True) -> Look:
    """Prepare what a page shows of a photo.

    Args:
        noisy: before.
        denoised: after, of the same size when both are upright; in any depth.
        pictures: whether to show it; if not, it is only measured.

    Raises:
        PhotoError: the two differ in size.
    """
    before, after = (upright(p.pixels, p.orientation) for p in (noisy, denoised))
    if before.shape[:2] != after.shape[:2]:
        raise PhotoError(
            f"{_pixels(before)} and {_pixels(after)} pixels", "compare two versions of one photo"
        )
    height, width = before.shape[:2]
    noise = (photo_noise_level(noisy), photo_noise_level(denoised))
    if not pictures:
        return Look(size=(width, height), noise=noise)
    ranges = _value_range(noisy), _value_range(denoised)
    # A grey profile would not fit the three channels shown.
    profiles = [p.icc if p.pixels.shape[2] == 3 else None for p in (noisy, denoised)]
    spots = []
    for top in window_starts(height, CROP, _CANDIDATES):
        for left in window_starts(width, CROP, _CANDIDATES):
            area = np.s_[top : top + CROP, left : left + CROP]
            a, b = _unit(before[area], *ranges[0]), _unit(after[area], *ranges[1])
            lit = 0.05 < b.mean() < 0.95
            spots.append((top, left, float(b.std()), float(np.abs(a - b).mean()), lit))
    smooth = min(spots, key=lambda s: (not s[4], s[2]))
    detailed = max((s for s in spots if s != smooth), key=lambda s: s[2], default=smooth)
    rest = [s for s in spots if s not in (smooth, detailed)]
    changed = max(rest, key=lambda s: s[3], default=smooth)
    reasons = {spot[:2]: reason for spot, reason in (
        (changed, "where most changes"), (detailed, "where there is most detail"),
        (smooth, "where it is smoothest"),
    )}  # fmt: skip
    places = list(reversed(reasons))
    areas = [np.s_[top : top + CROP, left : left + CROP] for top, left in places]
    pairs = [(_unit(before[a], *ranges[0]), _unit(after[a], *ranges[1])) for a in areas]
    strongest = max(float(np.quantile(np.abs(a - b), 0.99)) for a, b in pairs)
    factor = next((f for f in _FACTORS if f * strongest <= 0.4), 1)
    return Look(
        size=(width, height),
        noise=noise,
        noisy=_jpeg(_reduced(before, *ranges[0]), profiles[0]),
        denoised=_jpeg(_reduced(after, *ranges[1]), profiles[1]),
        factor=factor,
        crops=[
            Crop(
                left=left, top=top, reason=reasons[top, left],
                noisy=_jpeg(a, profiles[0], 92), denoised=_jpeg(b, profiles[1], 92),
                removed=_jpeg(0.5 + factor * (a - b), None),
            )
            for (top, left), (a, b) in zip(places, pairs, strict=True)
        ],
    )  # fmt: skip


def check_report(path: Path, *, force: bool) -> None:
    """Find out before any work whether a page could be written; an earlier page may be replaced.

    Raises:
        OutputError: it could not, or there is another file and `force` is not set.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{path}: a page, but not named like one", "add .html")
    try:
        if path.is_dir() or not path.parent.is_dir():
            raise OutputError(f"{path}: no place for a page", "name a file in a folder that exists")
        if path.exists() and not force:
            with path.open("rb") as file:
                if file.read(len(PAGE_MARK)) != PAGE_MARK:
                    raise OutputError(f"{path}: exists already", "overwrite it with --force")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path.parent}: the folder is read-only", "choose another")


def write_report(path: Path, entries: Sequence[Entry], about: str) -> None:
    """Write a page, whole or not at all.

    Args:
        path: where.
        entries: photos in the order in which they are shown.
        about: a line on how they were made.

    Raises:
        OutputError: it cannot be written.
    """
    shown = [i for i, entry in enumerate(entries) if entry.look and entry.look.crops]
    looks = sum(entry.look is not None for entry in entries)
    if looks > len(shown):
        about += f" The first {len(shown)} of {looks} are shown."
    rows = [_row(i, entry, linked=i in shown) for i, entry in enumerate(entries)]
    heads = ("photo", "pixels", "file before", "after", "time", "noise before", "after")
    parts = [
        f"<p>{_text(about)}</p>", _table(heads, rows), _NOISE,
    ]  # fmt: skip
    for number in shown:
        entry = entries[number]
        by = f", by {entry.weights}" if entry.weights else ""
        about = f"{_text(entry.source)} → {_text(entry.target)}{_text(by)}."
        assert entry.look is not None
        parts.append(_section(number, _text(entry.source.name), about, entry.look))
    _write_page(path, "Before and after", parts)


def write_fit_page(
    path: Path,
    *,
    title: str,
    about: Sequence[str],
    settings: Sequence[tuple[str, str]],
    curve: Sequence[CurvePoint],
    looks: Sequence[tuple[str, Look]],
) -> None:
    """Write the page a fit ends with, whole or not at all.

    Args:
        path: where.
        title: of the page.
        about: paragraphs: what was found in the photos, what came of it.
        settings: names and values.
        curve: in the order of the steps.
        looks: photos before and after with their names; those without pictures are only listed.

    Raises:
        OutputError: it cannot be written.
    """
    rows = [
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>'
        for name, value in settings
    ]
    parts = [f"<p>{_text(paragraph)}</p>" for paragraph in about]
    parts += [
        curve_figure(curve),
        "<details><summary>The curve in numbers</summary>",
        _table(CURVE_COLUMNS, curve_rows(curve)), "</details>",
        "<h2>Settings</h2>", '<div class="settings">' + _table((), rows) + "</div>",
    ]  # fmt: skip
    if looks:
        parts += ["<h2>Before and after</h2>", _NOISE]
    for number, (name, look) in enumerate(looks):
        parts.append(_section(number, _text(name), "", look))
    _write_page(path, title, parts)


def _write_page(path: Path, title: str, parts: Sequence[str]) -> None:
    skeleton = resources.files("amsnet_cli.report").joinpath("page.html").read_text("utf-8")
    page = Template(skeleton).substitute(title=_text(title), body="\n".join(parts))
    try:
        write_whole(path, page.encode())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f'<th scope="col">{head}</th>' for head in heads)
    head = f"<thead><tr>{cells}</tr></thead>\n" if heads else ""
    body = "\n".join(rows)
    return f'<div class="wide"><table>\n{head}<tbody>\n{body}\n</tbody></table></div>'


def _row(number: int, entry: Entry, *, linked: bool) -> str:
    name = _text(entry.source)
    title = f'<a href="#photo-{number}">{name}</a>' if linked else name
    if entry.look is None:
        return f'<tr><td>{title}</td><td class="failed" colspan="6">{_text(entry.error)}</td></tr>'
    width, height = entry.look.size
    both = entry.source.exists() and entry.target.exists()
    replaced = both and entry.source.samefile(entry.target)
    cells = [
        f"{width}×{height}", "–" if replaced else _megabytes(entry.source),
        _megabytes(entry.target),
        "–" if entry.seconds is None else f"{entry.seconds:.1f} s", *map(_level, entry.look.noise),
    ]  # fmt: skip
    return f"<tr><td>{title}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _section(number: int, name: str, about: str, look: Look) -> str:
    """Show a photo; name and text are escaped already."""
    about += f" Noise {_level(look.noise[0])} before, {_level(look.noise[1])} after."
    head = f'<section id="photo-{number}">\n<h2>{name}</h2>\n<p>{about.strip()}</p>'
    if not look.crops:
        return f"{head}\n</section>"
    width, height = _shown_size(look.size)
    sides = f'width="{width}" height="{height}"'
    scale = 100 * width / look.size[0]
    crops = "\n".join(_crop(name, crop, look.factor) for crop in look.crops)
    return f"""{head}
<figure>
<div class="slider">
<img class="after" src="{_uri(look.denoised)}" {sides} alt="{name}, denoised">
<img class="before" src="{_uri(look.noisy)}" {sides} alt="{name}, noisy">
<input type="range" min="0" max="100" step="0.5" value="50"
 aria-label="Share of {name} that is shown noisy, in percent from the left">
</div>
<figcaption>Noisy on the left, denoised on the right, at {scale:.0f} %: drag, or use the arrow keys.
</figcaption>
</figure>
{crops}
</section>"""


def _crop(name: str, crop: Crop, factor: int) -> str:
    place = f"{crop.left},{crop.top}"
    figures = "\n".join(
        f'<figure><div><img src="{_uri(image)}" loading="lazy" alt="{name} at {place}, {what}">'
        f"</div><figcaption>{what}</figcaption></figure>"
        for image, what in (
            (crop.noisy, f"noisy, 100 %, {crop.reason} ({place})"),
            (crop.denoised, "denoised"),
            (crop.removed, f"removed: noisy minus denoised, times {factor}, grey is nothing"),
        )
    )
    return f'<div class="crops">\n{figures}\n</div>'


def _value_range(photo: Photo) -> tuple[float, float]:
    """Tell which stored values are shown black and white."""
    if photo.pixels.dtype == np.float32:
        return min(0.0, float(photo.pixels.min())), max(1.0, float(photo.pixels.max()))
    return 0.0, float(np.iinfo(photo.pixels.dtype).max)


def _unit(pixels: Pixels, low: float, high: float) -> NDArray[np.float32]:
    """Map pixels to [0, 1] and grey to three channels."""
    unit = (pixels.astype(np.float32) - low) / (high - low)
    return np.broadcast_to(unit, (*unit.shape[:2], 3))


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, OVERVIEW / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _reduced(pixels: Pixels, low: float, high: float) -> NDArray[np.float32]:
    """Reduce a picture to what is shown of it, without a copy of all of it."""
    height, width = pixels.shape[:2]
    shown = _shown_size((width, height))
    step = max(1, min(width // shown[0], height // shown[1]))
    rows, columns = height // step, width // step
    blocks = pixels[: rows * step, : columns * step]
    blocks = blocks.reshape(rows, step, columns, step, -1)
    small = _unit(blocks.mean((1, 3), dtype=np.float32), low, high)
    resized = [
        np.asarray(Image.fromarray(plane).resize(shown, Image.Resampling.BICUBIC))
        for plane in np.moveaxis(small, 2, 0)
    ]
    return np.stack(resized, 2)


def _jpeg(unit: NDArray[np.float32], icc: bytes | None, quality: int = 85) -> bytes:
    pixels = np.rint(unit.clip(0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    profile = {"icc_profile": icc} if icc else {}
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:4:4", **profile)
    return file.getvalue()


def _uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _text(text: str | Path) -> str:
    """Escape text of others, names that are not text included."""
    return html.escape(os.fsencode(text).decode("utf-8", "replace"))


def _megabytes(path: Path) -> str:
    try:
        return f"{path.stat().st_size / 1e6:.2f} MB"
    except OSError:  # It came or went through a pipe.
        return "–"


def _level(noise: float) -> str:
    return "–" if math.isnan(noise) else f"{noise:.1f}"


def _pixels(pixels: Pixels) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
