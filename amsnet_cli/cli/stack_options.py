"""The options of `amsnet denoise` and `amsnet noise` that only stacks know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amsnet_cli.errors import PhotoError, UsageError
from amsnet_cli.inference.stack_noise import Detector, dark_of
from amsnet_cli.photos.read import read_photo
from amsnet_cli.stacks.find import open_stack


def make_detector(gain: float | None, read_noise: float | None, dark: str | None) -> Detector:
    """Make what the user says of the noise of --gain, --read-noise and --dark.

    Raises:
        UsageError: a value is out of range.
        PhotoError: the dark frames cannot be read.
    """
    if gain is not None and not 0 < gain < float("inf"):
        raise UsageError(f"--gain {gain:g}: not above 0", "give electrons per unit")
    if read_noise is not None and not 0 <= read_noise < float("inf"):
        raise UsageError(f"--read-noise {read_noise:g}: below 0", "give it in electrons")
    if read_noise is not None and gain is None:
        raise UsageError("--read-noise is in electrons", "give --gain as well")
    return Detector(gain=gain, read_noise=read_noise, dark=None if dark is None else _dark(dark))


def parse_pages(text: str | None) -> slice:
    """Parse --pages: FIRST:END:STEP, as Python slices, or one number; None for all.

    Raises:
        UsageError: it is none of both.
    """
    if text is None:
        return slice(None)
    parts = text.split(":")
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or (
        len(numbers) == 3 and numbers[2] is not None and numbers[2] < 1
    ):
        raise UsageError(f"--pages {text}: not a range", "use FIRST:END or FIRST:END:STEP")
    if len(numbers) == 1:
        first = numbers[0]
        if first is None:
            raise UsageError(f"--pages {text}: not a range", "use FIRST:END or FIRST:END:STEP")
        return slice(first, None if first == -1 else first + 1)
    return slice(*numbers)


def _dark(dark: str) -> tuple[float, float]:
    try:
        return float(dark), float("nan")
    except ValueError:
        pass
    path = Path(dark)
    stack = open_stack(path, counts=True)
    if stack is None:
        pixels: Any = read_photo(path).pixels
        if pixels.shape[2] != 1:
            raise PhotoError(f"{path}: dark frames are grey", "give a number with --dark")
        return dark_of([pixels[..., 0]])
    return dark_of([stack.read(index) for index in range(min(16, len(stack.pages)))])
