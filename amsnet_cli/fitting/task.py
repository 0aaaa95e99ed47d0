"""What differs between a fit to developed photos and one to mosaics of RAW files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amsnet_cli.core.networks import MaskedNetwork
from amsnet_cli.core.networks.mosaic import MosaicNetwork
from amsnet_cli.fitting.mosaic_profile import MosaicProfile
from amsnet_cli.fitting.noise_profile import FolderProfile
from amsnet_cli.fitting.objectives import Objective
from amsnet_cli.model import Model
from amsnet_cli.mosaic_model import MosaicModel
from amsnet_cli.photos.photo import Photo

FitNetwork = MaskedNetwork | MosaicNetwork
SCRATCH = "scratch"
"""What a fresh network started from."""


@dataclass(frozen=True, kw_only=True)
class FitTask:
    """A folder that was read and measured, and what is trained on it.

    Attributes:
        paths: of the photos.
        skipped: for each photo that could not be read, why.
        fingerprint: of their pixels.
        profile: of the folder; None with the paper's preset.
        reason: why a fit is pointless, or "".
        started_from: name of the model to start from, or `SCRATCH`.
        start: it; None to start fresh.
        make_network: makes the network to train, by torch's global generator.
        make_objective: makes what it is trained to do.
        save: writes a model file of a network and of what is known of its training.
        samples: reads some of the photos, or crops of them.
        distil: returns a network whose single pass replaces the masks of the trained one, or None
            if that has failed or was stopped; None where there are none to replace.
    """

    paths: list[Path]
    skipped: tuple[str, ...]
    fingerprint: str
    profile: FolderProfile | MosaicProfile | None
    reason: str
    started_from: str
    start: Model | MosaicModel | None
    make_network: Callable[[], FitNetwork]
    make_objective: Callable[[], Objective]
    save: Callable[[Path, FitNetwork, dict[str, Any]], None]
    samples: Callable[[], tuple[tuple[Path, Photo], ...]]
    distil: Callable[[FitNetwork, Callable[[], bool]], FitNetwork | None] | None = None
