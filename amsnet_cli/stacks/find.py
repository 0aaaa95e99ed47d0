"""Find out whether a file is a stack."""

from __future__ import annotations

from pathlib import Path

from amsnet_cli.stacks import fits, tiff
from amsnet_cli.stacks.stack import Stack


def open_stack(path: Path, *, counts: bool = False) -> Stack | None:
    """Open a file as a stack.

    Args:
        path: of any file.
        counts: whether a grey TIFF file of one page is a stack, whoever has written it.

    Returns:
        None where it is none; it may still be a photo.

    Raises:
        PhotoError: it is a stack that is damaged, or that cannot be denoised faithfully; or it
            needs an extra.
    """
    if not path.is_file():
        return None
    if path.suffix.lower() in tiff.SUFFIXES:
        return tiff.open_tiff(path, counts=counts)
    if path.suffix.lower() in fits.SUFFIXES:
        return fits.open_fits(path)
    return None
