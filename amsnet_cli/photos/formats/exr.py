"""OpenEXR, with the format's own library where it is installed: float in linear light."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.colour import BT709, SRGB_CURVE, Chromaticities
from amsnet_cli.photos.colour_model import ColourModel, colour_model_of
from amsnet_cli.photos.extras import package_missing
from amsnet_cli.photos.formats import exr_header
from amsnet_cli.photos.formats.exr_header import OF_OTHER_PICTURES
from amsnet_cli.photos.formats.format import PROFILE, Format
from amsnet_cli.photos.photo import Photo, Pixels, photo_of

SIGNATURE = b"\x76\x2f\x31\x01"
_LINEAR = (1.0,)


def read(path: Path, content: bytes) -> Photo:
    """Decode the first part of a file.

    Args:
        path: for messages.
        content: the file.

    Returns:
        float32 in linear light, with a profile that says so; transparency is associated.

    Raises:
        PhotoError: OpenEXR is not installed or finds fault with the file; or it is none of grey or
            RGB: deep pixels, luminance with chroma, integers.
    """
    if importlib.util.find_spec("OpenEXR") is None:
        raise package_missing(path, "OpenEXR")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photo.exr").write_bytes(content)
        program = Path(__file__).with_name("exr_decoder.py")
        command = [sys.executable, str(program), str(folder / "photo.exr"), name]
        try:
            done = subprocess.run(
                command, capture_output=True, check=False, timeout=120 + 4e-6 * len(content)
            )
        except subprocess.TimeoutExpired as error:
            raise _refusal(path, "it takes too long") from error
        if done.returncode:
            raise _refusal(path, "it crashes on it")
        header = json.loads((folder / "header.json").read_text(encoding="utf-8"))
        if "unsupported" in header:
            raise PhotoError(
                f"{path}: OpenEXR with {header['unsupported']}", "save it as plain RGB first"
            )
        if "error" in header:
            raise _refusal(path, header["error"].replace(name, ""))
        if done.stderr or done.stdout:  # It continues after a damaged block.
            raise _refusal(path, done.stderr.decode(errors="replace").replace(name, ""))
        pixels = np.load(folder / "pixels.npy")
    model = ColourModel(
        chromaticities=_chromaticities(header) if pixels.shape[2] >= 3 else None, curve=_LINEAR
    )
    density, aspect = header["density"], header["aspect"]
    try:
        texts, attributes = exr_header.texts_and_others(content)
    except ValueError as error:
        raise _refusal(path, str(error)) from error
    return photo_of(
        pixels,
        fourth_channel="associated",
        icc=model.profile(),
        texts=texts,
        attributes=tuple(item for item in attributes if item[0] not in OF_OTHER_PICTURES),
        dpi=(density, density * aspect) if density and aspect > 0 else None,
        notes=_notes(header, [name for name, _, _ in attributes if name in OF_OTHER_PICTURES]),
    )


def write(photo: Photo) -> bytes:
    """Encode a photo as 32-bit float in linear light, compressed without loss.

    Colours that are not linear are made so by their profile, sRGB where there is none.

    Raises:
        ValueError: OpenEXR is not installed, or the profile is none that `holds_profile`.
    """
    try:
        import OpenEXR
    except ImportError as error:
        raise ValueError('OpenEXR needs one more package: pip install "amsnet[codecs]"') from error
    is_grey = photo.pixels.shape[2] == 1
    model: ColourModel | None = ColourModel(
        chromaticities=None if is_grey else BT709, curve=SRGB_CURVE
    )
    if photo.icc:
        model = colour_model_of(photo.icc)
    if model is None:
        raise ValueError("OpenEXR cannot hold this colour profile")
    pixels = _premultiplied(photo, model)
    channels = dict(zip("Y" if is_grey else "RGB", np.moveaxis(pixels, 2, 0), strict=True))
    if photo.alpha is not None:
        channels["A"] = photo.alpha
    header: dict[str, Any] = dict(photo.texts)
    header |= {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    if model.chromaticities is not None:
        header["chromaticities"] = (*model.chromaticities[2:], *model.chromaticities[:2])
    if photo.dpi:
        header |= {"xDensity": photo.dpi[0], "pixelAspectRatio": photo.dpi[1] / photo.dpi[0]}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "photo.exr"
        try:
            planes = {key: np.ascontiguousarray(plane) for key, plane in channels.items()}
            with OpenEXR.File(header, planes) as file:
                file.write(str(path))
        except (RuntimeError, TypeError) as error:
            raise ValueError(str(error)) from error
        return exr_header.with_attributes(path.read_bytes(), photo.attributes)


def holds_profile(profile: bytes) -> bool:
    """Return whether a profile can be made linear: it has primaries and one curve."""
    return colour_model_of(profile) is not None


FORMAT = Format(
    name="OpenEXR",
    suffixes=(".exr",),
    matches=lambda head: head[:4] == SIGNATURE,
    read=read,
    write=write,
    depths=(32,),
    fourth_channels=("transparency", "associated"),
    holds_profile=holds_profile,
    blocks=(PROFILE,),
    texts=("*",),
    attributes=("*",),
    upright=True,
)


def _premultiplied(photo: Photo, model: ColourModel) -> Pixels:
    """Return linear pixels, multiplied by the transparency."""
    pixels = photo.pixels
    if photo.alpha is None:
        return pixels if model.curve == _LINEAR else model.to_linear(pixels)
    cover = photo.alpha[..., None]
    is_associated = photo.fourth_channel == "associated"
    if model.curve != _LINEAR:
        pixels = model.to_linear(pixels / np.maximum(cover, 1e-6) if is_associated else pixels)
    elif is_associated:
        return pixels
    return np.asarray(pixels * cover)


def _chromaticities(header: dict[str, Any]) -> Chromaticities:
    """Return those of the header, which lists white last; else Rec. 709's, as OpenEXR says."""
    found = header["chromaticities"]
    if not found:
        return BT709
    red, green, blue, white = (
        tuple(round(value, 6) for value in found[i : i + 2]) for i in (0, 2, 4, 6)
    )
    return (*white, *red, *green, *blue)


def _notes(header: dict[str, Any], attributes: list[str]) -> tuple[str, ...]:
    notes = []
    if header["parts"] > 1:
        notes.append(f"only the first of {header['parts']} parts is kept")
    for name, left_out in (("channels", header["left_out"]), ("attributes", attributes)):
        if left_out:
            notes.append(f"{name} left out: {', '.join(left_out)}")
    if not header["whole_window"]:
        notes.append("the place of its pixels in the display window is not kept")
    return tuple(notes)


def _refusal(path: Path, reason: str) -> PhotoError:
    return PhotoError(
        f"{path}: not a picture, damaged or cut short ({' '.join(reason.split())[:200]})",
        "copy it again from its source",
    )
