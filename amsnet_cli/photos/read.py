"""Read a photo of any supported format."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import ifd
from amsnet_cli.photos.colour import NoColoursError
from amsnet_cli.photos.formats import NAMES, format_of
from amsnet_cli.photos.formats.raw import DEVELOPED_BITS, RawOptions, profile_of, read_undeveloped
from amsnet_cli.photos.formats.raw import FORMAT as RAW
from amsnet_cli.photos.formats.raw import read as read_raw
from amsnet_cli.photos.limits import MAX_BYTES
from amsnet_cli.photos.mosaic import MosaicPhoto, NotAMosaicError
from amsnet_cli.photos.photo import Photo, with_usable_resolution

_SUBFILE, _PHOTOMETRIC = 254, 262
_SENSOR = (32803, 34892)
"""PhotometricInterpretation of mosaics and of linear RAW (DNG 1.4)."""


def decode(path: Path, content: bytes) -> Photo:
    """Decode a photo of any format but RAW.

    Args:
        path: for messages.
        content: the file.

    Raises:
        PhotoError: see `read_photo`.
    """
    known = format_of(path, content)
    if known is None:
        raise PhotoError(f"{path}: not a picture in a supported format", f"expected {NAMES}")
    with _errors_named(path):
        return with_usable_resolution(known.read(path, content))


def read_photo(
    path: str | Path,
    raw: RawOptions = RawOptions(),
    decode: Callable[[Path, bytes], Photo] = decode,
) -> Photo:
    """Read a photo with its depth, profile, metadata and orientation.

    The format is found by the file's content; RAW by its suffix.

    Args:
        path: a file of one of `photos.formats`.
        raw: how RAW files are developed.
        decode: of other files, such as `DecoderProcesses.decode`.

    Raises:
        PhotoError: there is no such file, it is no picture, it is damaged or cut short, it
            changes meanwhile, it would expand without measure, or it is of a kind that cannot
            be denoised faithfully (CMYK without a profile, several pages, HDR, ...).
    """
    path = Path(path)
    content = read_file(path)
    if format_of(path, content) is not RAW:
        return decode(path, content)
    return _developed(path, content, raw)


def read_mosaic_or_photo(
    path: Path,
    raw: RawOptions = RawOptions(),
    decode: Callable[[Path, bytes], Photo] = decode,
) -> Photo:
    """Read a RAW file without developing it, and any other photo as `read_photo` does.

    It has the colour profile and the bits that it will be developed to. A RAW file without a
    mosaic is developed, and its notes say so.

    Raises:
        PhotoError: see `read_photo`.
    """
    content = read_file(path)
    if format_of(path, content) is not RAW:
        return decode(path, content)
    try:
        photo = read_undeveloped(path, content)
        return replace(photo, icc=profile_of(photo.mosaic, raw), bits=DEVELOPED_BITS)
    except NotAMosaicError as error:
        return after_development(path, _developed(path, content, raw), error)


def after_development(path: Path, photo: Photo, reason: PhotoError) -> Photo:
    """Note of a developed RAW photo why it is not denoised before."""
    note = f"denoised after development ({reason.what.removeprefix(f'{path}: ')})"
    return replace(photo, notes=(*photo.notes, note))


def _developed(path: Path, content: bytes, raw: RawOptions) -> Photo:
    with _errors_named(path):
        return _with_note_of_frames(read_raw(path, content, raw), content)


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Translate what any decoder may raise."""
    try:
        yield
    except UnicodeDecodeError as error:  # pyvips takes all names and messages for text.
        raise PhotoError(f"{path}: damaged", "copy it again from its source") from error
    except NoColoursError as error:
        raise PhotoError(f"{path}: damaged, {error}", "copy it again from its source") from error
    except MemoryError as error:
        raise PhotoError(f"{path}: does not fit into memory", "cut it into parts") from error


def read_mosaic_photo(path: Path) -> MosaicPhoto:
    """Read a RAW file without developing it.

    Raises:
        NotAMosaicError: it holds no mosaic, or is no RAW file.
        PhotoError: see `read_photo`.
    """
    content = read_file(path)
    if format_of(path, content) is not RAW:
        raise NotAMosaicError(f"{path}: no RAW file", "write another format than DNG")
    return read_undeveloped(path, content)


def _with_note_of_frames(photo: Photo, content: bytes) -> Photo:
    """Say that a DNG holds more sensor frames than the first, which LibRaw takes."""
    try:
        order, pages = ifd.byte_order(content), ifd.read_directories(content)
    except ifd.MalformedError:  # RAW formats that are no TIFF
        return photo
    count = sum(
        ifd.first_number(page.get(_PHOTOMETRIC), order, 0) in _SENSOR
        and ifd.first_number(page.get(_SUBFILE), order, 0) == 0
        for page in pages
    )
    if count < 2:
        return photo
    return replace(photo, notes=(*photo.notes, f"only the first of {count} frames is kept"))


def read_file(path: Path) -> bytes:
    """Read a regular file that is not empty, or raise a `PhotoError` that says why not."""
    try:
        if path.is_dir():  # Windows does not even open one.
            raise PhotoError(f"{path}: a folder, not a picture", "name the files in it")
        # Opening a pipe would otherwise wait for somebody to write into it.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:  # noqa: PTH123
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise PhotoError(f"{path}: not a regular file")
            if before.st_size > MAX_BYTES:
                raise PhotoError(f"{path}: {before.st_size} bytes are more than a photo has")
            content = file.read(before.st_size + 1)
            after = os.fstat(file.fileno())
    except FileNotFoundError as error:
        raise PhotoError(f"{path}: no such file", "check the path") from error
    except OSError as error:
        raise PhotoError(
            f"{path}: cannot be read ({error.strerror})", "check the path and its permissions"
        ) from error
    except (MemoryError, OverflowError) as error:
        raise PhotoError(f"{path}: does not fit into memory") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(
        content
    ) != before.st_size:
        raise PhotoError(f"{path}: changes while it is read", "try again when it is complete")
    if not content:
        raise PhotoError(f"{path}: the file is empty", "copy it again from its source")
    return content
