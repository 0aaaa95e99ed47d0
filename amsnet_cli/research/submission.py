"""Write submissions to benchmarks whose clean pictures are not published: SIDD and DND."""

from __future__ import annotations

import base64
import csv
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from amsnet_cli.atomic import write_output
from amsnet_cli.errors import OutputError, UsageError
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.model import Model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.research.datasets import SIDD_BENCHMARK, dnd_pictures, matlab_bytes, read_blocks

MEGAPIXEL = 1024 * 1024
"""Pixels of a megapixel in SIDD's own code."""


def submit_sidd(
    benchmark: Path,
    output: Path,
    model: Model,
    options: DenoiseOptions = DenoiseOptions(),
    *,
    about: dict[str, str],
    device: torch.device = torch.device("cpu"),
    force: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Denoise SIDD's benchmark blocks and write the file to submit.

    Args:
        benchmark: `BenchmarkNoisyBlocksSrgb.mat`, or its folder.
        output: `SubmitSrgb.csv` for the benchmark on Kaggle, with columns ID and BLOCK (base64 of a
            block's bytes); or `SubmitSrgb.mat` for the original server, with the cell array
            DenoisedBlocksSrgb, TimeMPSrgb in seconds per megapixel and the struct OptionalData.
        model: see `denoise`.
        options: see `denoise`.
        about: fields of OptionalData, which describe the method.
        device: see `denoise`.
        force: replace an existing submission.
        progress: called with the fraction done.

    Raises:
        UsageError: `output` has another suffix, or SciPy is missing.
        PhotoError: the blocks cannot be read.
        OutputError: `output` exists, or cannot be written.
    """
    if output.suffix not in (".csv", ".mat"):
        raise UsageError(f"{output}: SIDD takes .csv (Kaggle) or .mat", "name one of them")
    if output.exists() and not force:
        raise OutputError(f"{output}: exists already", "replace it with --force")
    if benchmark.is_dir():
        benchmark = benchmark / f"{SIDD_BENCHMARK}.mat"
    noisy = read_blocks(benchmark, SIDD_BENCHMARK)
    denoised = np.empty_like(noisy)
    started = time.monotonic()
    indices = list(np.ndindex(*noisy.shape[:2]))
    for done, index in enumerate(indices, 1):
        photo = Photo(pixels=noisy[index])
        denoised[index] = denoise(photo, model, options, device=device).photo.pixels
        progress(done / len(indices))
    seconds = (time.monotonic() - started) / (noisy[..., 0].size / MEGAPIXEL)
    if output.suffix == ".csv":
        content = _kaggle_csv(denoised)
    else:
        cells = np.empty(noisy.shape[:2], object)
        for index in indices:
            cells[index] = denoised[index]
        content = matlab_bytes(
            {"DenoisedBlocksSrgb": cells, "TimeMPSrgb": seconds, "OptionalData": about}
        )
    write_output(output, content, make_folder=True)


def submit_dnd(
    folder: Path,
    output: Path,
    model: Model,
    options: DenoiseOptions = DenoiseOptions(),
    *,
    device: torch.device = torch.device("cpu"),
    force: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Denoise DND's sRGB crops and write the files to submit.

    Args:
        folder: with `info.mat` and `images_srgb/`.
        output: a folder. Each crop becomes a file like `0001_01.mat` (Idenoised_crop), and each
            picture one like `bundled/0001.mat` (cell array Idenoised, israw, eval_version "1.0").
            The files in `bundled` are to be submitted.
        model: see `denoise`.
        options: see `denoise`.
        device: see `denoise`.
        force: replace an existing submission.
        progress: called with the fraction done.

    Raises:
        UsageError: h5py or SciPy is missing.
        PhotoError: the pictures cannot be read.
        OutputError: `output` has a submission already, or cannot be written.
    """
    bundled = output / "bundled"
    if bundled.exists() and not force:
        raise OutputError(f"{bundled}: exists already", "replace it with --force")
    pictures = dnd_pictures(folder)
    for i, read in enumerate(pictures, 1):
        crops = read()
        cells = np.empty(len(crops), object)
        for k, crop in enumerate(crops):
            cells[k] = _denoised_crop(crop, model, options, device)
            file = matlab_bytes({"Idenoised_crop": cells[k]})
            write_output(output / f"{i:04d}_{k + 1:02d}.mat", file, make_folder=True)
            progress((i - 1 + (k + 1) / len(crops)) / len(pictures))
        content = {"Idenoised": cells, "israw": False, "eval_version": "1.0"}
        write_output(bundled / f"{i:04d}.mat", matlab_bytes(content), make_folder=True)


def _denoised_crop(
    crop: NDArray[np.float32], model: Model, options: DenoiseOptions, device: torch.device
) -> NDArray[np.float32]:
    photo = Photo(pixels=np.ascontiguousarray(crop))
    return np.clip(denoise(photo, model, options, device=device).photo.pixels, 0, 1)


def _kaggle_csv(blocks: NDArray[np.uint8]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["ID", "BLOCK"])
    for i, block in enumerate(blocks.reshape(-1, *blocks.shape[2:])):
        rows.writerow([i, base64.b64encode(block.tobytes()).decode("ascii")])
    return text.getvalue().encode("ascii")
