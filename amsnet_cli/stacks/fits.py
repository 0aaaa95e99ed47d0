"""FITS (4.0): images and cubes of all extensions.

Files that gzip has packed are unpacked into a temporary one first.

The result is a copy of the file with other pixels, so headers, tables and the coordinates of the
sky are the same byte for byte. Only checksums are computed anew, and what counts the planes of a
cube where fewer are kept.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from amsnet_cli.atomic import whole_file
from amsnet_cli.errors import PhotoError, UsageError
from amsnet_cli.photos.extras import MALFORMED, package_missing
from amsnet_cli.stacks.block import slabs
from amsnet_cli.stacks.fits_image import FitsImage
from amsnet_cli.stacks.gz import UnpackedFile, packed_from, unpack
from amsnet_cli.stacks.stack import Page, PageKind, Stack, places

_SUFFIXES = (".fits", ".fit", ".fts")
_GZ, _FZ = ".gz", ".fz"
SUFFIXES = (*_SUFFIXES, *(f"{suffix}{_GZ}" for suffix in _SUFFIXES))
NO_LIGHT = frozenset(
    {
        *("DQ", "DQI", "MASK", "FLAG", "FLAGS", "BPM", "CTX", "CON"),
        *("ERR", "ERROR", "SIGMA", "RMS", "STD", "UNCERT", "VAR", "VARIANCE", "IVAR"),
        *("WHT", "WEIGHT", "WEIGHTS", "EXP", "EXPMAP", "TIME", "SAMP", "WAVELENGTH", "AREA"),
    }
)
"""EXTNAME of extensions that are no pictures: flags, errors, weights and maps. They are kept."""
_GAINS = ("GAIN", "EGAIN")
_READ_NOISES = ("RDNOISE", "READNOIS", "RON", "ENOISE")
_BLOCK = 2880


class FitsStack(Stack):
    """All images of a FITS file. It is only open while it is read."""

    suffixes = SUFFIXES
    photometric = True

    def __init__(
        self, path: Path, images: list[FitsImage], unpacked: UnpackedFile | None = None
    ) -> None:
        self.path, self._images, self._unpacked = path, images, unpacked
        self._plain = unpacked.path if unpacked else path
        self.pages: list[PageKind] = []
        self._places: list[tuple[FitsImage, int]] = []
        for image in images:
            for i in range(image.count):
                self.pages.append(
                    PageKind(shape=image.shape[-2:], dtype=image.dtype, group=(image.number, i))
                )
                self._places.append((image, i))
        self.axes = "; ".join(" x ".join(map(str, image.shape[:-2])) or "1" for image in images)

    def read(self, index: int) -> Page:
        """Read a page; NaN where it is blank."""
        image, i = self._places[index]
        with self._plain.open("rb") as file:
            file.seek(image.place + i * image.page_bytes)
            content = file.read(image.page_bytes)
        if len(content) < image.page_bytes:
            raise PhotoError(f"{self.path}: cut short", "copy it again from its source")
        return image.values(np.frombuffer(content, image.stored).reshape(image.shape[-2:]))

    def read_part(self, index: int, rows: slice, columns: slice) -> Page:
        """Read the rows of a part of a page; NaN where it is blank."""
        image, i = self._places[index]
        place = image.place + i * image.page_bytes
        stored = np.memmap(self._plain, image.stored, "r", place, image.shape[-2:])
        return image.values(np.array(stored[rows, columns]))

    def along_first_axis(self, chosen: slice) -> list[int]:
        """Return the pages of some planes of the only cube."""
        if chosen == slice(None):
            return list(range(len(self.pages)))
        if len(self._images) > 1 or len(self._images[0].shape) < 3:
            raise UsageError(f"{self.path}: not a single cube", "leave out --pages")
        length = self._images[0].shape[0]
        step = len(self.pages) // length
        found = places(chosen, length, self.path)
        return [place * step + i for place in found for i in range(step)]

    def header_noise(self, index: int) -> dict[str, float]:
        """Return gain and read noise of the image's header, or else of the first header."""
        image, _ = self._places[index]
        found = {}
        unit = str(image.header.get("BUNIT", "")).strip().lower()
        if unit in ("electron", "electrons", "e-", "e"):
            found["gain"] = 1.0
        for name, keywords in (("gain", _GAINS), ("read_noise", _READ_NOISES)):
            for keyword in keywords:
                value = image.header.get(keyword)
                if isinstance(value, int | float) and value > 0:
                    found.setdefault(name, float(value))
        return found

    def write(
        self, target: Path, pages: Sequence[Page], chosen: slice, modified_ns: int | None = None
    ) -> None:
        """Write a file like this one, whole or not at all; packed if its name ends in .gz."""
        with whole_file(target, modified_ns=modified_ns) as file:
            if target.suffix.lower() == _GZ:
                packed_from(partial(self._write, pages, chosen), file)
            else:
                self._write(pages, chosen, file)

    def _write(self, pages: Sequence[Page], chosen: slice, file: BinaryIO) -> None:
        indices = self.along_first_axis(chosen)
        with self._plain.open("rb") as source:
            if len(indices) < len(self.pages):
                image = self._fewer(source, file, chosen)
                where = [image.place + i * image.page_bytes for i in range(len(indices))]
            else:
                shutil.copyfileobj(source, file, 1 << 20)
                where = [image.place + i * image.page_bytes for image, i in self._places]
        for index, place, page in zip(indices, where, pages, strict=True):
            file.seek(place)
            for rows in slabs(page):
                file.write(self._places[index][0].to_store(rows))
        file.flush()
        _renew_checksums(Path(file.name))

    def _fewer(self, source: BinaryIO, file: BinaryIO, chosen: slice) -> FitsImage:
        """Copy the file with fewer planes of its only cube; their pixels are still to come."""
        image = self._images[0]
        kept = places(chosen, image.shape[0], self.path)
        header, axis = image.header.copy(), len(image.shape)
        header[f"NAXIS{axis}"] = len(kept)
        if f"CRPIX{axis}" in header:
            header[f"CRPIX{axis}"] = (header[f"CRPIX{axis}"] - 1 - kept[0]) / kept.step + 1
        for keyword in (f"CDELT{axis}", *(f"CD{i}_{axis}" for i in range(1, axis + 1))):
            if keyword in header:
                header[keyword] *= kept.step
        with _opened(self._plain) as hdus:
            info = hdus[image.number].fileinfo()
            head, end = info["hdrLoc"], info["datLoc"] + info["datSpan"]
        _copy(source, file, 0, head)
        file.write(header.tostring().encode("ascii"))
        shape = (len(kept), *image.shape[1:])
        moved = FitsImage(**{**vars(image), "shape": shape, "place": file.tell()})
        size = moved.count * moved.page_bytes
        file.truncate(file.tell() + size + -size % _BLOCK)
        file.seek(0, 2)
        _copy(source, file, end, None)
        return moved


def open_fits(path: Path) -> FitsStack | None:
    """Open a FITS file.

    Returns:
        None where it is none.

    Raises:
        PhotoError: it holds no image, is cut short or damaged, or its pixels are coded; or astropy
            is missing.
    """
    unpacked = unpack(path) if path.suffix.lower() == _GZ else None
    plain = unpacked.path if unpacked else path
    with plain.open("rb") as file:
        if not file.read(10).startswith(b"SIMPLE  ="):
            return None
    try:
        with _opened(plain) as hdus:
            size = plain.stat().st_size
            found = (_image_of(path, size, i, hdu) for i, hdu in enumerate(hdus))
            images = [image for image in found if image]
    except ImportError as error:
        raise package_missing(path, "FITS", "fits") from error
    except PhotoError:
        raise
    except MALFORMED as error:
        reason = " ".join(str(error).split())
        raise PhotoError(f"{path}: damaged ({reason})", "copy it again from its source") from error
    if not images:
        raise PhotoError(f"{path}: no image in it", "name a file with one")
    return FitsStack(path, images, unpacked)


@contextmanager
def _opened(path: Path, mode: str = "readonly") -> Iterator[Any]:
    """Open a file with astropy, without its warnings: what is odd in a header stays as it is."""
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(
            path, mode=mode, memmap=True, do_not_scale_image_data=True,
            disable_image_compression=True,
        ) as hdus:  # fmt: skip
            yield hdus


def _image_of(path: Path, size: int, number: int, hdu: Any) -> FitsImage | None:
    """Return the image of an HDU; None for tables, and for what is no picture."""
    header = hdu.header
    if header.get("ZIMAGE"):
        raise PhotoError(f"{path}: a compressed image in it", "unpack it with funpack first")
    if not hdu.is_image or header.get("NAXIS", 0) < 2 or header.get("GROUPS"):
        return None
    shape = tuple(int(header[f"NAXIS{i}"]) for i in range(header["NAXIS"], 0, -1))
    if str(header.get("EXTNAME", "")).strip().upper() in NO_LIGHT or 0 in shape:
        return None
    bits = header["BITPIX"]
    stored = np.dtype(f">{'f' if bits < 0 else 'u' if bits == 8 else 'i'}{abs(bits) // 8}")
    place = hdu.fileinfo()["datLoc"]
    end = place + int(np.prod(shape)) * stored.itemsize
    if end > size:
        raise PhotoError(f"{path}: cut short", "copy it again from its source")
    return FitsImage(
        number=number, place=place, shape=shape, stored=stored,
        scale=float(header.get("BSCALE", 1)), zero=float(header.get("BZERO", 0)),
        blank=header.get("BLANK") if bits > 0 else None, header=header.copy(),
    )  # fmt: skip


def _copy(source: BinaryIO, target: BinaryIO, start: int, end: int | None) -> None:
    """Copy bytes to where the target is; to the end of the source if `end` is None."""
    source.seek(start)
    left = end - start if end is not None else None
    while left is None or left > 0:
        content = source.read(1 << 20 if left is None else min(1 << 20, left))
        if not content:
            return
        target.write(content)
        left = None if left is None else left - len(content)


def _renew_checksums(path: Path) -> None:
    """Compute CHECKSUM and DATASUM anew where a header has them."""
    with _opened(path) as hdus:
        some = any("CHECKSUM" in hdu.header or "DATASUM" in hdu.header for hdu in hdus)
    if some:
        with _opened(path, "update") as hdus:
            for hdu in hdus:
                if "CHECKSUM" in hdu.header:
                    hdu.add_checksum()
                elif "DATASUM" in hdu.header:
                    hdu.add_datasum()
