"""Find out whether a file, or a folder, is a stack."""

from __future__ import annotations

from pathlib import Path

from amsnet_cli.photos.suffix import suffix_of
from amsnet_cli.stacks import fits, tiff, zarr
from amsnet_cli.stacks.stack import Stack


def open_stack(path: Path, *, counts: bool = False) -> Stack | None:
    """Open a file, or a Zarr folder, as a stack.

    Args:
        path: of any file or folder.
        counts: whether a grey TIFF file of one page is a stack, whoever has written it.

    Returns:
        None where it is none; it may still be a photo.

    Raises:
        PhotoError: it is a stack that is damaged, or that cannot be denoised faithfully; or it
            needs an extra.
    """
    if path.is_dir():
        return zarr.open_zarr(path)
    if not path.is_file():
        return None
    suffix = suffix_of(path.name)
    if suffix in tiff.SUFFIXES:
        return tiff.open_tiff(path, counts=counts)
    if suffix in fits.SUFFIXES or suffix == ".fz":
        return fits.open_fits(path)
    return None
