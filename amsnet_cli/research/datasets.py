"""Research data as it is published: pairs of pictures, SIDD's blocks, DND's crops.

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
_WAYS = "x_real/x_mean, x_NOISY/x_GT, noisy/x and clean/x, input/x and target/x"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A noisy picture and its clean one, read when they are asked for."""

    name: str
    noisy: Callable[[], Photo]
    clean: Callable[[], Photo]


def find_pairs(noisy: Path, clean: Path | None = None) -> list[Pair]:
    """Find the pictures of a data set.

    Args:
        noisy: a folder of noisy pictures; or, without `clean`, a folder that holds both: SIDD's
            two files of validation blocks, or pictures told apart and matched by a word in their
            names or folders (`_real` and `_mean` as in PolyU, `_NOISY_` and `_GT_` as in SIDD,
            `noisy/` and `clean/`, ...). Or SIDD's file of noisy blocks itself.
        clean: a folder of clean pictures of the same names, but for such a word; or SIDD's file.

    Returns:
        Pairs in the order of the noisy pictures' paths, or of SIDD's blocks.

    Raises:
        PhotoError: nothing to read, or a noisy picture without exactly one clean one.
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
    """Match pictures by their path below the two folders, suffix aside.

    Where the paths differ by nothing but a word for noisy or clean, they match as well.

    Raises:
        PhotoError: a noisy picture has no clean one, or more than one.
    """
    exact: dict[Path, list[Path]] = {}
    alike: dict[str, list[Path]] = {}
    for path in find_photos(clean_dir):
        exact.setdefault(path.relative_to(clean_dir).with_suffix(""), []).append(path)
        alike.setdefault(_key(path, clean_dir), []).append(path)
    pairs = []
    for path in find_photos(noisy_dir):
        partners = exact.get(path.relative_to(noisy_dir).with_suffix(""))
        partners = partners or alike.get(_key(path, noisy_dir), [])
        pairs.append((path, _only(path, partners, clean_dir)))
    return pairs


def read_blocks(path: Path, name: str) -> NDArray[np.uint8]:
    """Read SIDD's blocks of sRGB pixels from a MATLAB 5 file.

    Args:
        path: such as `ValidationNoisyBlocksSrgb.mat`.
        name: of the variable.

    Returns:
        (scenes, blocks, H, W, 3) uint8; (40, 32, 256, 256, 3) in the published files.

    Raises:
        PhotoError: there is no such file, or it is of another kind.
        UsageError: SciPy is missing.
    """
    matlab = _library("scipy.io")
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
        folder: as unpacked, with `info.mat` and `images_srgb/`; its files are MATLAB 7.3, that is
            HDF5.

    Returns:
        For each picture a function that reads its crops, (H, W, 3) float32 in [0, 1], and raises
        a `PhotoError` if it cannot.

    Raises:
        PhotoError: there is no `info.mat`, or it is of another kind.
        UsageError: h5py is missing.
    """
    h5py = _library("h5py")
    info = folder / "info.mat"
    try:
        with h5py.File(info) as file:
            # HDF5 has MATLAB's axes in reverse.
            boxes = [file[r][()].T.astype(int) for r in file["info/boundingboxes"][()].ravel()]
    except FileNotFoundError as error:
        raise PhotoError(f"{info}: no such file", "give the folder that DND unpacks to") from error
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

    place = folder / "images_srgb"
    return [partial(crops, place / f"{i:04d}.mat", box) for i, box in enumerate(boxes, 1)]


def matlab_bytes(variables: dict[str, Any]) -> bytes:
    """Encode variables as a compressed MATLAB 5 file; object arrays become cells, dicts structs.

    Raises:
        UsageError: SciPy is missing.
    """
    file = io.BytesIO()
    _library("scipy.io").savemat(file, variables, do_compression=True)
    # The first 116 bytes are free text; SciPy's has the time of day in it.
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
        # The last word tells: a folder "real/" may hold both.
        words = _WORD.findall(_plain(path, folder))
        if words and words[-1] in _CLEAN_WORDS:
            clean.setdefault(_key(path, folder), []).append(path)
        elif words:
            noisy.append(path)
    if not noisy or not clean:
        raise PhotoError(
            f"{folder}: its names do not tell noisy pictures from clean ones",
            f"known are {_WAYS}; or give two folders",
        )
    return [(path, _only(path, clean.get(_key(path, folder), []), folder)) for path in noisy]


def _plain(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix().lower()


def _key(path: Path, folder: Path) -> str:
    """What a noisy picture and its clean one have in common."""
    return _WORD.sub("*", _plain(path, folder))


def _only(path: Path, partners: list[Path], where: Path) -> Path:
    if len(partners) != 1:
        raise PhotoError(
            f"{path}: {len(partners)} pictures of its name below {where}",
            "give the two the same name",
        )
    return partners[0]


def _library(name: str) -> Any:
    """Import what the extra brings."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"MATLAB files need {name.partition('.')[0]}",
            "install it with: pip install 'amsnet[research]'",
        ) from error
