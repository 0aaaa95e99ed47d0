"""Develop RAW files by other programs, always in the same way, to compare what they make of them.

    python -m benchmarks.developers FILE OUT.npy THRESHOLD

is how LibRaw's own wavelets run: in a process that they may abort.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.sax.saxutils import quoteattr

import numpy as np
import rawpy

from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import read_photo

DARKTABLE = "darktable-cli"
_NLM = 0
"""darktable's code for non-local means, of the modes of its module denoise (profiled)."""
_BANDS, _CHANNELS = 7, 6


def by_libraw(path: Path, wavelets: float | None = None) -> Photo:
    """Develop by LibRaw: the camera's white balance, AHD, sRGB, nothing that depends on content.

    Args:
        path: the file.
        wavelets: threshold of LibRaw's denoising; None for none. A process of its own runs it.

    Returns:
        RGB, 16 bits.

    Raises:
        CalledProcessError: LibRaw aborted.
    """
    if wavelets is None:
        return Photo(pixels=_developed(path))
    with TemporaryDirectory() as folder:
        out = Path(folder, "pixels.npy")
        command = [sys.executable, "-m", "benchmarks.developers", path, out, str(wavelets)]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[1])
        return Photo(pixels=np.load(out))


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


def has_darktable() -> bool:
    """Return whether darktable's command line is installed."""
    return shutil.which(DARKTABLE) is not None


def _developed(path: Path, wavelets: float | None = None) -> np.ndarray:
    with rawpy.imread(str(path)) as raw:
        pixels = raw.postprocess(
            use_camera_wb=True, demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD,
            output_color=rawpy.ColorSpace.sRGB, no_auto_bright=True, adjust_maximum_thr=0,
            output_bps=16, user_flip=0, noise_thr=wavelets,
        )  # fmt: skip
        return np.array(pixels)


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


if __name__ == "__main__":
    np.save(sys.argv[2], _developed(Path(sys.argv[1]), float(sys.argv[3])))
