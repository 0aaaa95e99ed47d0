"""The noise that a model was fitted to, kept in its file so that it can be learned again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amsnet_cli.core.photo_noise import CHANNELS, SPECTRUM, PhotoNoise
from amsnet_cli.core.photo_noise import LEVELS as TOLD_LEVELS
from amsnet_cli.noise.model import BANDS, LEVELS, MAX_LAG, NoiseModel

_PREFIX = "known_noise."
_LAGS = 2 * MAX_LAG + 1
_SHAPES = {
    "levels": (LEVELS,), "covariance": (_LAGS, _LAGS, 3, 3), "edge_preservation": (),
    "gain": (2, len(BANDS)), "log_sigma": (CHANNELS, TOLD_LEVELS), "spectrum": (SPECTRUM,),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class KnownNoise:
    """Noise of a photo that a model was fitted to.

    Attributes:
        model: to draw such noise.
        told: what a network was told of it.
    """

    model: NoiseModel
    told: PhotoNoise


def to_tensors(noises: Sequence[KnownNoise]) -> dict[str, Tensor]:
    """Return noises as float32 tensors with names, none for none."""
    if not noises:
        return {}
    rows = [
        {
            "levels": noise.model.levels, "covariance": noise.model.covariance,
            "edge_preservation": torch.tensor(noise.model.edge_preservation),
            "gain": noise.model.gain, "log_sigma": noise.told.log_sigma[0],
            "spectrum": noise.told.spectrum[0],
        }
        for noise in noises
    ]  # fmt: skip
    return {_PREFIX + key: torch.stack([row[key].float().cpu() for row in rows]) for key in rows[0]}


def take_from(tensors: dict[str, Tensor]) -> tuple[KnownNoise, ...]:
    """Remove the noises from the tensors of a model file, and return them.

    Raises:
        ValueError: they are malformed.
    """
    taken = {key: tensors.pop(key) for key in list(tensors) if key.startswith(_PREFIX)}
    if not taken:
        return ()
    parts = {key.removeprefix(_PREFIX): tensor for key, tensor in taken.items()}
    shapes = {key: tuple(tensor.shape[1:]) for key, tensor in parts.items()}
    counts = {tuple(tensor.shape[:1]) for tensor in parts.values()}
    if shapes != _SHAPES or len(counts) > 1 or not all(map(_is_finite, parts.values())):
        raise ValueError("the noise that it was fitted to is malformed")
    return tuple(
        KnownNoise(
            model=NoiseModel(
                levels=parts["levels"][i], covariance=parts["covariance"][i],
                edge_preservation=float(parts["edge_preservation"][i]), gain=parts["gain"][i],
            ),
            told=PhotoNoise(
                log_sigma=parts["log_sigma"][i : i + 1], spectrum=parts["spectrum"][i : i + 1]
            ),
        )
        for i in range(len(parts["levels"]))
    )  # fmt: skip


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())
