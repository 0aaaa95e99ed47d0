"""Random training patches of mosaics, with what is known of their noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amsnet_cli.core.networks.mosaic import red_corner
from amsnet_cli.fitting.images import ImageFolder
from amsnet_cli.fitting.mosaic_images import MosaicCrop
from amsnet_cli.fitting.mosaic_profile import Laws
from amsnet_cli.fitting.patches import PatchSampler, PatchSpec
from amsnet_cli.noise.sensor import SensorNoise, law_by_colour

HELD_OUT = 0.2
"""Fraction of the photosites that is never trained on: they validate."""
CLIPPED = 3.0
"""Standard deviations of noise to black's or white's limit within which a photosite may be clipped,
so that its noise is not as strong as the law says."""
DEFECT = 6.0
"""Standard deviations from the denoised value from which a photosite counts as defective."""


@dataclass(frozen=True, kw_only=True)
class MosaicPatch:
    """A patch of a mosaic, augmented.

    Attributes:
        noisy: (1, P, P) light, 0 at black and 1 at white.
        denoised: (1, P, P), a first denoised version of it.
        colours: (3, P, P), as `MosaicNetwork` takes them.
        told: a and b of the law that denoising is told, (1, P, P) each.
        law: a and b of the noise, as all photos of the camera and ISO say it.
        counts: (1, P, P) bool, where there is noise as the law says it.
        held_out: (1, P, P) bool, where nothing is trained.
    """

    noisy: Tensor
    denoised: Tensor
    colours: Tensor
    told: SensorNoise
    law: SensorNoise
    counts: Tensor
    held_out: Tensor

    @property
    def variance(self) -> Tensor:
        """Of the noise, shaped as `noisy`."""
        return self.law.variance(self.denoised.clamp_min(0))


class MosaicPatches:
    """Patches that begin with a red photosite, as `MosaicNetwork` wants Bayer mosaics.

    Args:
        images: to crop.
        denoised: a first version of each crop, (H, W) float32.
        laws: of the noise of each photo.
        size: side of a patch, a multiple of the network's.
        seed: of everything drawn.
    """

    def __init__(
        self,
        images: ImageFolder[MosaicCrop],
        denoised: Sequence[NDArray[np.float32]],
        laws: Sequence[Laws],
        *,
        size: int,
        seed: int,
    ) -> None:
        self.images, self.denoised, self.laws, self.size = images, denoised, laws, size
        self.sampler = PatchSampler(images, size + 2, seed)  # two more, to begin with red
        self._held_out = [
            np.random.default_rng((seed, 3, i)).random(crop.pixels.shape[:2], np.float32) < HELD_OUT
            for i, crop in enumerate(images.crops)
        ]

    def draw(self, rng: np.random.Generator) -> MosaicPatch:
        """Draw a patch and its augmentation."""
        return self._cut(self.sampler.draw(rng))

    def cover(self, most: int) -> list[MosaicPatch]:
        """Return patches that do not overlap, of all crops; `most` of them, drawn, if more."""
        step = self.size + 2
        specs = [
            PatchSpec(crop=i, top=top, left=left, size=step, rot90=0, flip=False)
            for i, crop in enumerate(self.images.crops)
            for top in range(0, max(1, crop.pixels.shape[0] - step + 1), step)
            for left in range(0, max(1, crop.pixels.shape[1] - step + 1), step)
        ]
        chosen = self.sampler.rng("cover").permutation(len(specs))[:most]
        return [self._cut(specs[i]) for i in sorted(chosen)]

    def _cut(self, spec: PatchSpec) -> MosaicPatch:
        crop = self.images.crops[spec.crop]
        height, width = crop.pixels.shape[:2]
        box = (
            spec.top, min(spec.top + spec.size, height),
            spec.left, min(spec.left + spec.size, width),
        )  # fmt: skip
        area = np.s_[box[0] : box[1], box[2] : box[3]]
        part = crop.mosaic.part(box)
        limits = [
            part.with_values(np.full_like(part.values, value)).light()
            for value in (0, part.saturation)
        ]
        planes = np.stack([
            part.light(), self.denoised[spec.crop][area], self._held_out[spec.crop][area], *limits,
            *part.planes(),
        ], -1).astype(np.float32)  # (h, w, 8)  # fmt: skip
        cut = dataclasses.replace(spec, top=0, left=0).cut(planes)  # (P + 2, P + 2, 8)
        tensor = spec.augment(torch.from_numpy(cut.copy()).permute(2, 0, 1))
        top, left = red_corner(tensor[5:])
        tensor = tensor[:, top : top + self.size, left : left + self.size].contiguous()
        noisy, denoised, held_out, least, most = tensor[:5, None].unbind(0)
        patch = MosaicPatch(
            noisy=noisy, denoised=denoised, colours=tensor[5:],
            told=law_by_colour(crop.noise.laws, tensor[5:]),
            law=law_by_colour(self.laws[crop.image], tensor[5:]),
            counts=torch.ones_like(noisy, dtype=torch.bool), held_out=held_out > 0.5,
        )  # fmt: skip
        sigma = patch.variance.sqrt()
        counts = (denoised - least > CLIPPED * sigma) & (most - denoised > CLIPPED * sigma)
        counts &= (noisy - denoised).abs() < DEFECT * sigma
        return dataclasses.replace(patch, counts=counts)
