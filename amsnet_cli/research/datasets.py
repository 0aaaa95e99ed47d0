"""Read published datasets: pairs of pictures, SIDD's blocks, DND's crops.

MATLAB files need SciPy or h5py, which come with the extra `amsnet[research]`.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.errors import PhotoError, UsageError
from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import read_file, read_photo

SIDD_NOISY = "ValidationNoisyBlocksSrgb"
SIDD_CLEAN = "ValidationGtBlocksSrgb"
SIDD_BENCHMARK = "BenchmarkNoisyBlocksSrgb"

_NOISY_WORDS = ("noisy", "noise", "real", "input", "lq")
_CLEAN_WORDS = ("clean", "gt", "mean", "target", "ground_truth", "groundtruth", "reference", "hq")
_WORD = re.compile(rf"(?<![a-z])({'|'.join(_NOISY_WORDS + _CLEAN_WORDS)})(?![a-z])")
_NAME_PATTERNS = "x_real/x_mean, x_NOISY/x_GT, noisy/x and clean/x, input/x and target/x"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A noisy picture and its clean version; calling `noisy` or `clean` reads it."""

    name: str
    noisy: Callable[[], Photo]
    clean: Callable[[], Photo]


def find_pairs(noisy: Path, clean: Path | None = None) -> list[Pair]:
    """Find the pairs of noisy and clean pictures of a dataset.

    In one folder, a word in their names or folders marks pictures as noisy or clean: `_real` and
    `_mean` (PolyU), `_NOISY_` and `_GT_` (SIDD), `noisy/` and `clean/`, and similar words.

    Args:
        noisy: a folder of noisy pictures, or SIDD's file of noisy validation blocks. Without
            `clean`, a folder of both noisy and clean pictures, or of SIDD's two files.
        clean: a folder of clean pictures of the same names, except for such a word; or SIDD's file
            of clean blocks.

    Returns:
        Pairs in the order of the noisy pictures' paths, or of SIDD's blocks.

    Raises:
        PhotoError: no picture can be read, or a noisy picture has no or several clean versions.
        UsageError: SciPy is needed and missing.
    """
    if noisy.suffix.lower() == ".mat":
        return _sidd_pairs(noisy, clean or noisy.with_name(f"{SIDD_CLEAN}.mat"))
    if clean is None and (noisy / f"{SIDD_NOISY}.mat").is_file():
        return _sidd_pairs(noisy / f"{SIDD_NOISY}.mat", noisy / f"{SIDD_CLEAN}.mat")
    paths = pair_photos(noisy, clean) if clean else _pairs_within(noisy)
    return [
        Pair(name=a.stem, noisy=partial(read_photo, a), clean=partial(read_photo, b))
        for a, b in paths
    ]


def pair_photos(noisy_dir: Path, clean_dir: Path) -> list[tuple[Path, Path]]:
    """Match pictures by their path below the two folders, without the suffix.

    Paths that differ only in a word for noisy or clean match as well.

    Raises:
        PhotoError: a noisy picture has no clean version, or several.
    """
    exact: dict[Path, list[Path]] = {}
    by_key: dict[str, list[Path]] = {}
    for path in find_photos(clean_dir):
        exact.setdefault(path.relative_to(clean_dir).with_suffix(""), []).append(path)
        by_key.setdefault(_pair_key(path, clean_dir), []).append(path)
    pairs = []
    for path in find_photos(noisy_dir):
        partners = exact.get(path.relative_to(noisy_dir).with_suffix(""))
        partners = partners or by_key.get(_pair_key(path, noisy_dir), [])
        pairs.append((path, _single(path, partners, clean_dir)))
    return pairs


def read_blocks(path: Path, name: str) -> NDArray[np.uint8]:
    """Read SIDD's blocks of sRGB pixels from a MATLAB 5 file.

    Args:
        path: such as `ValidationNoisyBlocksSrgb.mat`.
        name: of the variable.

    Returns:
        (scenes, blocks, H, W, 3) uint8; (40, 32, 256, 256, 3) in the published files.

    Raises:
        PhotoError: the file is missing, or not SIDD's.
        UsageError: SciPy is missing.
    """
    matlab = _import("scipy.io")
    file = io.BytesIO(read_file(path))
    damage = (ValueError, TypeError, NotImplementedError, OSError, zlib.error)
    try:
        blocks = matlab.loadmat(file, variable_names=[name]).get(name)
    except (*damage, matlab.matlab.MatReadError) as error:
        raise PhotoError(f"{path}: not a MATLAB 5 file, or damaged ({error})") from error
    if blocks is None:
        raise PhotoError(f"{path}: holds no {name}", "take SIDD's own file")
    if blocks.dtype != np.uint8 or blocks.ndim != 5 or blocks.shape[-1] != 3:
        raise PhotoError(
            f"{path}: {name} is {blocks.dtype} of shape {blocks.shape}, not blocks of 8-bit RGB"
        )
    return np.asarray(blocks, np.uint8)


def dnd_pictures(folder: Path) -> list[Callable[[], list[NDArray[np.float32]]]]:
    """Find the pictures of the Darmstadt Noise Dataset.

    Args:
        folder: as unpacked, with `info.mat` and `images_srgb/`. The files are MATLAB 7.3, which is
            HDF5.

    Returns:
        One function per picture. It returns the picture's crops, (H, W, 3) float32 in [0, 1], or
        raises a `PhotoError` if they cannot be read.

    Raises:
        PhotoError: `info.mat` is missing, or not DND's.
        UsageError: h5py is missing.
    """
    h5py = _import("h5py")
    info = folder / "info.mat"
    try:
        with h5py.File(info) as file:
            # HDF5 has MATLAB's axes in reverse.
            boxes = [file[r][()].T.astype(int) for r in file["info/boundingboxes"][()].ravel()]
    except FileNotFoundError as error:
        raise PhotoError(
            f"{info}: no such file", "give the folder of the unpacked dataset"
        ) from error
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise PhotoError(f"{info}: not DND's info.mat ({error})") from error

    def crops(path: Path, corners: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        try:
            with h5py.File(path) as file:
                picture = np.asarray(file["InoisySRGB"][()].T, np.float32)  # (H, W, 3)
        except (OSError, KeyError) as error:
            raise PhotoError(f"{path}: missing, or not one of DND's pictures ({error})") from error
        # First row, first column, last row, last column, counted from 1.
        return [picture[y - 1 : bottom, x - 1 : right] for y, x, bottom, right in corners]

    images = folder / "images_srgb"
    return [partial(crops, images / f"{i:04d}.mat", box) for i, box in enumerate(boxes, 1)]


def matlab_bytes(variables: dict[str, Any]) -> bytes:
    """Encode variables as a compressed MATLAB 5 file.

    Object arrays become cell arrays, dictionaries become structs.

    Raises:
        UsageError: SciPy is missing.
    """
    file = io.BytesIO()
    _import("scipy.io").savemat(file, variables, do_compression=True)
    # The first 116 bytes are free text. SciPy writes the time there, which changes every file.
    return b"MATLAB 5.0 MAT-file, by amsnet".ljust(116) + file.getvalue()[116:]


def _sidd_pairs(noisy_path: Path, clean_path: Path) -> list[Pair]:
    noisy, clean = read_blocks(noisy_path, SIDD_NOISY), read_blocks(clean_path, SIDD_CLEAN)
    if noisy.shape != clean.shape:
        raise PhotoError(f"{noisy_path}: blocks of {noisy.shape}, but clean {clean.shape}")

    def photo(blocks: NDArray[np.uint8], at: tuple[int, int]) -> Photo:
        return Photo(pixels=blocks[at])

    return [
        Pair(
            name=f"{at[0] + 1:02d}_{at[1] + 1:02d}",
            noisy=partial(photo, noisy, at), clean=partial(photo, clean, at),
        )
        for at in np.ndindex(*noisy.shape[:2])
    ]  # fmt: skip


def _pairs_within(folder: Path) -> list[tuple[Path, Path]]:
    """Match the pictures of one folder by the words in their names."""
    noisy: list[Path] = []
    clean: dict[str, list[Path]] = {}
    for path in find_photos(folder):
        # The last word counts: a folder "real/" may contain both.
        words = _WORD.findall(_relative_name(path, folder))
        if words and words[-1] in _CLEAN_WORDS:
            clean.setdefault(_pair_key(path, folder), []).append(path)
        elif words:
            noisy.append(path)
    if not noisy or not clean:
        raise PhotoError(
            f"{folder}: cannot recognise noisy and clean pictures by their names",
            f"name them like {_NAME_PATTERNS}; or give two folders",
        )
    return [(path, _single(path, clean.get(_pair_key(path, folder), []), folder)) for path in noisy]


def _relative_name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix().lower()


def _pair_key(path: Path, folder: Path) -> str:
    """The path with words for noisy or clean replaced: the same for both pictures of a pair."""
    return _WORD.sub("*", _relative_name(path, folder))


def _single(path: Path, partners: list[Path], folder: Path) -> Path:
    if len(partners) != 1:
        raise PhotoError(
            f"{path}: {len(partners)} clean pictures of this name in {folder}",
            "there must be exactly one",
        )
    return partners[0]


def _import(name: str) -> Any:
    """Import a library of the extra `amsnet[research]`."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"MATLAB files need {name.partition('.')[0]}",
            "install it with: pip install 'amsnet[research]'",
        ) from error
