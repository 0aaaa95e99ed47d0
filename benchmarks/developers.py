"""Develop RAW files by other programs, in a way in which what they make can be compared."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.sax.saxutils import quoteattr

import numpy as np
import rawpy

from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import read_photo

DARKTABLE, LIBRAW = "darktable-cli", "dcraw_emu"
"""Programs, in the packages darktable and libraw-bin of Debian."""
_NLM = 0
"""darktable's code for non-local means, of the modes of its module denoise (profiled)."""
_BANDS, _CHANNELS = 7, 6


def by_libraw(path: Path) -> Photo:
    """Develop by LibRaw: the camera's white balance, AHD, sRGB, nothing that depends on content.

    Returns:
        RGB, 16 bits.
    """
    with rawpy.imread(str(path)) as raw:
        pixels = raw.postprocess(
            use_camera_wb=True, demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD,
            output_color=rawpy.ColorSpace.sRGB, no_auto_bright=True, adjust_maximum_thr=0,
            output_bps=16, user_flip=0,
        )  # fmt: skip
        return Photo(pixels=np.array(pixels))


def by_libraw_denoised(path: Path, threshold: float) -> Photo:
    """Denoise by LibRaw's wavelets and develop as `by_libraw` does.

    LibRaw's own program does it, as rawpy's LibRaw corrupts its memory there.

    Args:
        path: the file.
        threshold: of the wavelets.

    Returns:
        RGB, 16 bits.

    Raises:
        CalledProcessError, TimeoutExpired: LibRaw failed.
    """
    with TemporaryDirectory() as folder:
        out = Path(folder, "out.tiff")
        command = [
            LIBRAW, *("-w", "-q", "3", "-o", "1", "-W", "-c", "0", "-6", "-t", "0"),
            *("-n", str(threshold), "-T", "-Z", out, path),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        return read_photo(out)


def by_darktable(path: Path, *, nlm: bool = False) -> Photo:
    """Develop by darktable without a workflow of its own, into sRGB.

    Args:
        path: the file.
        nlm: denoise by its profiled non-local means, by the profile of the camera and ISO, with
            everything as it comes.

    Returns:
        RGB, 16 bits.

    Raises:
        CalledProcessError: darktable failed.
    """
    with TemporaryDirectory() as folder:
        out, sidecar = Path(folder, "out.png"), Path(folder, "nlm.xmp")
        sidecar.write_text(_sidecar())
        command = [
            DARKTABLE, path, *([sidecar] if nlm else []), out, "--icc-type", "SRGB",
            "--core", "--configdir", folder, "--library", ":memory:", "--disable-opencl",
            "--conf", "plugins/darkroom/workflow=none",
            "--conf", "plugins/imageio/format/png/bpp=16",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        return read_photo(out)


def installed(program: str) -> bool:
    """Return whether a program is."""
    return shutil.which(program) is not None


def _sidecar() -> str:
    """Make an XMP file with which darktable denoises: version 11 of the module's parameters."""
    numbers = struct.pack("<8f", 1, 7, 1, 1, 0, 0, 0.1, 1)  # patch, search, strength, ...
    numbers += struct.pack("<6f", *[-1] * 6)  # The profile: -1 for that of camera and ISO.
    numbers += struct.pack("<i", _NLM)
    bands = [band / (_BANDS - 1) for band in range(_BANDS)] * _CHANNELS
    numbers += struct.pack(f"<{2 * len(bands)}f", *bands, *[0.5] * len(bands))
    numbers += struct.pack("<4i", 1, 1, 1, 1)
    step = {
        "num": "0", "operation": "denoiseprofile", "enabled": "1", "modversion": "11",
        "params": numbers.hex(), "multi_name": "", "multi_priority": "0",
    }  # fmt: skip
    attributes = " ".join(f"darktable:{name}={quoteattr(value)}" for name, value in step.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:darktable="http://darktable.sf.net/" darktable:xmp_version="5" '
        'darktable:auto_presets_applied="0" darktable:history_end="1">'
        f"<darktable:history><rdf:Seq><rdf:li {attributes}/></rdf:Seq></darktable:history>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
