"""The page on which the strength of denoising is chosen, with all that it takes in one file."""

from __future__ import annotations

import base64
import io
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from amsnet_cli.errors import PhotoError
from amsnet_cli.inference.layers import Layers
from amsnet_cli.photos.colour import is_linear, suits
from amsnet_cli.photos.geometry import upright
from amsnet_cli.postprocess.blocks import BLOCK_SIZE
from amsnet_cli.report.comparison import overview_size
from amsnet_cli.report.html import escape, page_html

TILE = 512
"""Side in pixels of the pieces in which pictures lie in the page."""
LARGEST_PAGE = 36_000_000
"""Bytes of pictures in a page, about; the quality of the JPEG files is lowered until they fit."""
QUALITIES = (97, 90, 80, 65, 45, 30)
"""Of JPEG, tried in this order."""
MOST_PIXELS = 60_000_000
"""Of a photo; more would fill a browser's memory."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Weights that a page offers.

    Attributes:
        weights: their name on the command line; empty for the default.
        title: their name on the page.
        layers: of the photo.
    """

    weights: str
    title: str
    layers: Layers


@dataclass(frozen=True, kw_only=True)
class TunedPhoto:
    """The photo of a page.

    Attributes:
        title: plain text.
        noisy: (H, W, C) uint8 as a display takes it, not turned.
        orientation: EXIF's code.
        icc: its colour profile; None for sRGB.
        about: paragraphs on its noise and on what the page leaves out.
        command: the command line up to its options.
        serve: where the page's server writes the result; empty without one.
    """

    title: str
    noisy: NDArray[np.uint8]
    orientation: int
    icc: bytes | None
    about: Sequence[str]
    command: str
    serve: str = ""


def check_size(height: int, width: int) -> None:
    """Refuse a photo that is too large for a page.

    Raises:
        PhotoError: it is.
    """
    if height * width > MOST_PIXELS:
        raise PhotoError(
            f"{width}x{height} pixels are too many for a page",
            "crop a part with: amsnet denoise --strength 0 --crop X,Y,W,H, and tune that",
        )


def tune_page(photo: TunedPhoto, choices: Sequence[Choice]) -> str:
    """Return the page of a photo as HTML; all its results are computed in it, from layers.

    Args:
        photo: see `TunedPhoto`.
        choices: at least one; the first is chosen to begin with.
    """
    pictures = [_picture(photo.noisy, photo)]
    pictures += [_picture(choice.layers.denoised, photo) for choice in choices]
    tiles = _within(pictures)
    height, width = pictures[0].shape[:2]
    data = {
        "width": width, "height": height, "tile": TILE, "block": BLOCK_SIZE,
        "grid": _grid(photo), "command": photo.command, "serve": photo.serve,
        "overview": _base64(_overview(pictures[0])),
        "choices": [
            {
                "weights": shlex.quote(choice.weights) if choice.weights else "",
                "title": choice.title, "picture": number,
                "shares": _shares(choice.layers, photo.orientation),
            }
            for number, choice in enumerate(choices, 1)
        ],
    }  # fmt: skip
    stored = [
        f'<script type="text/plain" id="picture-{i}">{" ".join(map(_base64, jpegs))}</script>'
        for i, jpegs in enumerate(tiles)
    ]
    encoded = json.dumps(data).replace("<", "\\u003c")
    body = resources.files("amsnet_cli.report").joinpath("templates/tune.html").read_text("utf-8")
    parts = [f"<p>{escape(paragraph)}</p>" for paragraph in photo.about]
    parts += [f'<script type="application/json" id="photo">{encoded}</script>', *stored, body]
    return page_html(photo.title, parts, served=bool(photo.serve))


def _picture(pixels: NDArray[np.uint8], photo: TunedPhoto) -> NDArray[np.uint8]:
    """Turn pixels upright, as (H, W, 3) in sRGB."""
    turned = np.ascontiguousarray(upright(pixels, photo.orientation))
    if turned.shape[2] == 1:
        return np.repeat(turned, 3, 2)
    icc = photo.icc
    if icc is None or is_linear(icc) or not suits(icc, 3):
        return turned
    try:
        converted = ImageCms.profileToProfile(
            Image.fromarray(turned),
            ImageCms.getOpenProfile(io.BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
        )
    except ImageCms.PyCMSError:
        return turned
    return np.asarray(converted)


def _within(pictures: Sequence[NDArray[np.uint8]]) -> list[list[bytes]]:
    """Encode all pictures as tiles, at the best quality with which they fit into a page."""
    for quality in QUALITIES:
        tiles = []
        size = 0
        for picture in pictures:
            tiles.append([_jpeg(part, quality) for part in _tiles(picture)])
            size += sum(4 * -(-len(jpeg) // 3) for jpeg in tiles[-1])
            if size > LARGEST_PAGE and quality != QUALITIES[-1]:
                break
        else:
            break
    return tiles


def _tiles(picture: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    height, width = picture.shape[:2]
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield picture[top : top + TILE, left : left + TILE]


def _shares(layers: Layers, orientation: int) -> dict[str, object] | None:
    """Return the weights of the blocks as a PNG: red luma, green chroma, blue detail."""
    if layers.weights is None:
        return None
    shares = (layers.weights.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    turned = np.ascontiguousarray(upright(shares, orientation))
    file = io.BytesIO()
    Image.fromarray(turned).save(file, "PNG")
    return {"columns": turned.shape[1], "rows": turned.shape[0], "png": _base64(file.getvalue())}


def _grid(photo: TunedPhoto) -> tuple[int, int]:
    """Where the first block begins in the upright picture: at 0, or before if it is cut there."""
    height, width = photo.noisy.shape[:2]
    # A mark at the beginning of each side shows where it goes.
    turned = upright(np.arange(4).reshape(2, 2), photo.orientation)
    first = int(turned[0, 0])
    cut_rows = -(-height % BLOCK_SIZE) if first in (2, 3) else 0
    cut_columns = -(-width % BLOCK_SIZE) if first in (1, 3) else 0
    return (cut_rows, cut_columns) if photo.orientation >= 5 else (cut_columns, cut_rows)


def _overview(picture: NDArray[np.uint8]) -> bytes:
    height, width = picture.shape[:2]
    image = Image.fromarray(picture)
    across, down = overview_size((width, height))
    image.thumbnail((max(1, across // 4), max(1, down // 4)))
    return _jpeg(np.asarray(image), 80)


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    image.save(file, "JPEG", quality=quality, subsampling="4:4:4")
    # Once more with the steps of luma for chroma too, as its noise is to be judged.
    steps = Image.open(file).quantization[0]  # type: ignore[attr-defined]
    file = io.BytesIO()
    image.save(file, "JPEG", qtables=[steps], subsampling="4:4:4")
    return file.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
