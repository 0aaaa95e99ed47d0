"""What is remembered of cameras' noise: a small JSON file in the user's data folder.

Only `amsnet noise --remember` writes it, so that denoising the same photo gives the same bytes
until the user asks for something else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from amsnet_cli.atomic import write_output
from amsnet_cli.errors import OutputError, UsageError
from amsnet_cli.noise.sensor_prior import GainPrior
from amsnet_cli.photos.exif import camera_of
from amsnet_cli.photos.mosaic import MosaicPhoto
from amsnet_cli.weights.store import models_dir

MOST_PHOTOS = 200
"""Photos of a camera that are remembered; the earliest make room."""
_LOW_QUANTILE = 0.25
"""Of a / ISO over the photos, weighted: texture makes some of them too high, and none too low."""
_ONE_PHOTO, _MANY_PHOTOS = 0.4, 0.1
"""Spread of the logarithm of a that one photo leaves, and many: the law itself is not exact."""
_HINT = "set AMSNET_HOME to another folder"
_PATIENCE = 10.0
"""Seconds to wait for another process that writes."""


@dataclass(frozen=True, kw_only=True)
class RememberedPhoto:
    """What one photo said of its camera.

    Attributes:
        digest: of its mosaic, so that it counts once.
        iso: what the camera was set to, > 0.
        a: variance per unit of light.
        b: variance in the dark.
    """

    digest: str
    iso: int
    a: float
    b: float


def camera_noise_path() -> Path:
    """Path of the file, whether it exists or not."""
    return models_dir().parent / "camera_noise.json"


def remembered_cameras() -> dict[str, list[RememberedPhoto]]:
    """Return the photos that are remembered of each camera, sorted by its name.

    A file that is missing or damaged holds none.
    """
    try:
        entries = json.loads(camera_noise_path().read_text("utf-8"))["cameras"]
        found = {
            str(camera): [_photo(digest, numbers) for digest, numbers in photos.items()]
            for camera, photos in sorted(entries.items())
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return found


def remember(camera: str, photo: RememberedPhoto) -> None:
    """Add a photo to what is remembered of its camera, once.

    Raises:
        OutputError: the file cannot be written.
    """

    def add(cameras: dict[str, list[RememberedPhoto]]) -> None:
        others = [other for other in cameras.get(camera, []) if other.digest != photo.digest]
        cameras[camera] = [*others, photo]

    _change(add)


def forget(camera: str) -> None:
    """Remove a camera.

    Raises:
        UsageError: nothing is remembered of it.
        OutputError: the file cannot be written.
    """
    known = remembered_cameras()
    if camera not in known:
        names = ", ".join(known) or "none"
        raise UsageError(f"nothing is remembered of {camera!r}", f"there are: {names}")
    _change(lambda cameras: cameras.pop(camera, None))


def remembered_gain(photo: MosaicPhoto) -> GainPrior | None:
    """Return what is remembered of a photo's camera at its ISO speed; None if nothing is."""
    camera, iso = camera_of(photo.exif)
    photos = remembered_cameras().get(camera, []) if camera and iso else []
    return gain_from(photos, iso) if photos and iso else None


def gain_from(photos: list[RememberedPhoto], iso: int) -> GainPrior:
    """Combine photos of one camera into what they say of a at an ISO speed, as a grows with it."""
    ranked = sorted(photos, key=lambda photo: photo.a / photo.iso)
    # The stronger the noise, the better it is known.
    weights = np.cumsum([math.sqrt(photo.a) for photo in ranked])
    low = ranked[int((weights < _LOW_QUANTILE * weights[-1]).sum())]
    spread = max(_MANY_PHOTOS, _ONE_PHOTO / math.sqrt(len(photos)))
    return GainPrior(median=low.a / low.iso * iso, spread=spread)


def _photo(digest: str, numbers: Any) -> RememberedPhoto:
    iso, a, b = numbers
    photo = RememberedPhoto(digest=str(digest), iso=int(iso), a=float(a), b=float(b))
    if not (photo.iso > 0 and 0 < photo.a < math.inf and 0 <= photo.b < math.inf):
        raise ValueError
    return photo


def _change(change: Callable[[dict[str, list[RememberedPhoto]]], object]) -> None:
    path = camera_noise_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=_PATIENCE):
            cameras = remembered_cameras()
            change(cameras)
            content = {
                camera: {p.digest: [p.iso, p.a, p.b] for p in photos[-MOST_PHOTOS:]}
                for camera, photos in sorted(cameras.items())
            }
            text = json.dumps({"cameras": content}, indent=1, ensure_ascii=False)
            write_output(path, f"{text}\n".encode(), hint=_HINT)
    except Timeout as error:
        raise OutputError(f"{path}: another process keeps it", "try again") from error
    except OSError as error:  # its folder or its lock
        raise OutputError(f"{path}: cannot be written ({error.strerror})", _HINT) from error
