"""Which engine runs the photos of `amsnet denoise`, and in what order they come to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from amsnet_cli import __version__
from amsnet_cli.batch.engine import Engine, LocalEngine
from amsnet_cli.batch.job import Job
from amsnet_cli.batch.remote import RemoteFiles
from amsnet_cli.batch.run import photos_ahead
from amsnet_cli.cli.console import debugging, progress_bar
from amsnet_cli.cli.crash import decode_told
from amsnet_cli.cli.photo_info import PhotoInfo
from amsnet_cli.cli.photo_settings import PhotoSettings
from amsnet_cli.cli.photo_steps import PhotoSteps
from amsnet_cli.inference.memory import free_memory
from amsnet_cli.photos.decoder_process import decoder_processes
from amsnet_cli.weights.manifest import sha256_of
from amsnet_cli.weights.store import AUTO, MOSAIC_WEIGHTS, find_weights, fitted_models


def choose_engine(
    settings: PhotoSettings,
    dask: str | None,
    gpus: Sequence[str],
    *,
    threads: int | None,
    label: Callable[[Job], str],
    quiet: bool,
    many: bool,
    remote: RemoteFiles = RemoteFiles(None),
) -> Engine[PhotoInfo]:
    """Return this process, a process for each of several GPUs, or a Dask cluster.

    Args:
        settings: of all photos.
        dask: the cluster's address, see `DaskEngine`; None for this machine.
        gpus: devices that have a process each, see `several_gpus`; empty for this process.
        threads: photos that are read ahead, and photos being written; None to choose.
        label: names a photo in the progress bar.
        quiet: no progress bar.
        many: whether there are several photos. They are decoded in processes of their own then, so
            that one which crashes a library does not end the batch. A crash on a single one is
            told.
        remote: photos and results of stores.

    Raises:
        DeviceError: there is no such device.
        WeightsError: the weights are missing or damaged.
    """
    if dask is None and not gpus:
        apart = many and not debugging()  # Debuggers would have to look for the crash elsewhere.
        steps = PhotoSteps(
            settings, lambda job: progress_bar(label(job), quiet=quiet),
            decoder_processes().decode if apart else decode_told,
        )  # fmt: skip
        if threads is None:
            threads = _photos_ahead(steps.device.type)
        return LocalEngine(remote.steps(steps), threads)
    from amsnet_cli.batch.dask_cluster import ClusterOptions
    from amsnet_cli.batch.dask_engine import DaskEngine

    weights, folder = settings.weights, settings.destination.path
    if weights not in (None, AUTO) and Path(weights).name != weights:
        weights = str(Path(weights).absolute())
    settings = replace(
        settings, weights=weights, planned=True,
        destination=replace(settings.destination, path=folder and folder.absolute()),
    )  # fmt: skip
    if threads is None:
        threads = _photos_ahead("cuda", processes=len(gpus)) if gpus else 1
    return DaskEngine(
        f"local:{len(gpus)}" if dask is None else dask,
        partial(_steps_on_gpu, settings, tuple(gpus)) if gpus else partial(PhotoSteps, settings),
        partial(describe_machine, weights),
        use_gpu=dask is not None and settings.device != "cpu",
        progress=lambda: progress_bar(dask or f"{len(gpus)} GPUs", quiet=quiet),
        options=ClusterOptions(ahead=threads),
    )  # fmt: skip


def _photos_ahead(device: str, *, processes: int = 1) -> int:
    cores, free = os.cpu_count() or 1, free_memory(torch.device("cpu"))
    return photos_ahead(device, cores=cores // processes, free=free // processes)


def _steps_on_gpu(settings: PhotoSettings, gpus: Sequence[str]) -> PhotoSteps:
    """Make the steps in a process of a local cluster, which names its processes by number."""
    from distributed import get_worker

    return PhotoSteps(replace(settings, device=gpus[int(get_worker().name)]))


def describe_machine(weights: str | None) -> dict[str, str]:
    """Return versions, and digests of the weights: what decides the bytes of a result.

    Args:
        weights: as asked for.

    Raises:
        WeightsError: there are no such weights here.
    """
    files = {"": find_weights(None if weights == AUTO else weights)}
    if weights in (None, AUTO):
        files[MOSAIC_WEIGHTS] = find_weights(MOSAIC_WEIGHTS)
    if weights == AUTO:
        files.update(fitted_models())
    digests = {f"weights {name or path.stem}": sha256_of(path)[:12] for name, path in files.items()}
    return {"amsnet": __version__, "torch": str(torch.__version__), **digests}
