"""The model that a fit starts from."""

from __future__ import annotations

from pathlib import Path

from amsnet_cli.model import Model, load_model
from amsnet_cli.mosaic_model import MosaicModel, load_mosaic_model
from amsnet_cli.weights.header import is_for_mosaics, read_header
from amsnet_cli.weights.store import MOSAIC_WEIGHTS, find_weights


def load_start(weights: str | Path | None, *, mosaics: bool) -> Model | MosaicModel:
    """Load a model of either kind.

    Args:
        weights: a name or path as for `find_weights`, or the `Path` of a model file; None for the
            bundled weights.
        mosaics: whether None means those for mosaics of RAW files.

    Raises:
        WeightsError: there are no such weights, or they are damaged.
    """
    weights = weights or (MOSAIC_WEIGHTS if mosaics else None)
    path = weights if isinstance(weights, Path) else find_weights(weights)
    name = weights if isinstance(weights, str) else path.stem
    if path.is_file() and is_for_mosaics(read_header(path)):
        return load_mosaic_model(path, name)
    return load_model(path, name)
