"""Training objective: noise as that of the photos is added to denoised ones, and removed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amsnet_cli.core.multi_mask import Predictor, single_pass
from amsnet_cli.core.networks import MaskedNetwork
from amsnet_cli.core.photo_noise import PhotoNoise
from amsnet_cli.fitting.distributed import DistributedContext
from amsnet_cli.fitting.images import ImageCrop, ImageFolder, to_tensor
from amsnet_cli.fitting.moved_noise import MovedNoise
from amsnet_cli.fitting.noise_profile import CropProfile
from amsnet_cli.fitting.patches import PatchSampler, PatchSpec
from amsnet_cli.known_noise import KnownNoise
from amsnet_cli.noise.synthesis import NoiseSampler

# Part of the seeds: other words would draw other patches.
_ADAPT, _VALIDATE, _REMEMBER = "renoise", "held out", "known noise"
LEAST_VALIDATION_PATCHES = 16
"""Validation patches of small photos, which overlap then."""


_Renoised = tuple[Tensor, Tensor, PhotoNoise | None]
"""Noisy and clean patch, (3, P, P), and what the network is told."""


class NoiseAdaptation:
    """Add synthetic noise to denoised photos, and train the single pass to remove it.

    The noise is drawn from the model estimated on each photo (`noise.model`), so a network that
    denoises in general learns the noise of these photos. This is the re-noising half of iterative
    data refinement (Zhang et al., CVPR 2022), which trains from scratch.

    Validation is by recorrupted-to-recorrupted loss (Pang et al., CVPR 2021) on the real noise.
    Noise e is drawn for a noisy patch y. The network sees y + e and its output is compared with
    y - e, then the other way round. Where e is independent of the noise of y and distributed like
    it, the noises of the two are uncorrelated, so this is the error against the clean patch, up to
    a constant. A stronger e favours smoothing, a weaker one favours keeping noise; and a network
    that has learned to tell e from the noise of y seems to gain, as its output follows y more and
    e less. So the last word is had by noise of the same photo, moved (`moved_noise`).

    Pages that are views of a still scene need none of this: the output for one is compared with the
    mean of the others, whose noise is other noise (Noise2Noise).

    Args:
        images: to train on.
        profiles: of all their crops; those without a noise model are left out.
        known: noise of earlier photos, not to be forgotten: some patches of each batch get it.
        teacher: what a model that has learned the known noise says of it is the target there
            (Li and Hoiem, "Learning without forgetting", ECCV 2016); None for the clean patch.
        patch_size: in pixels.
        batch: patches per step, over all processes.
        seed: of everything drawn.
        distributed: the processes.
        device: where to compute.
        validation_patches: how many, for `factor` 1; fewer where the photos have not so many that
            do not overlap.
        known_share: fraction of the patches that get known noise, if there is any.
        loss_floor: RMSE in [0, 1] units below which a patch counts as denoised.
        dc_block: side of the blocks whose mean error the validation ignores, in pixels: skewed
            noise shifts it, and `postprocess.brightness` corrects that.
    """

    def __init__(
        self,
        images: ImageFolder[ImageCrop],
        profiles: list[CropProfile],
        known: Sequence[KnownNoise] = (),
        teacher: MaskedNetwork | None = None,
        *,
        patch_size: int,
        batch: int,
        seed: int,
        distributed: DistributedContext,
        device: torch.device,
        validation_patches: int = 128,
        known_share: float = 0.25,
        loss_floor: float = 0.5 / 255,
        dc_block: int = 16,
    ) -> None:
        self.images, self.profiles, self.batch, self.teacher = images, profiles, batch, teacher
        self.distributed, self.device = distributed, device
        self.validation_patches, self.loss_floor = validation_patches, loss_floor
        self.dc_block = dc_block
        self.noise = {
            profile.crop: NoiseSampler(profile.noise, patch_size)
            for profile in profiles
            if profile.noise is not None
        }
        self.moved = {
            profile.crop: MovedNoise(
                images.crops[profile.crop].pixels, profile.denoised, profile.noise, patch_size
            )
            for profile in profiles
            if profile.noise is not None
        }
        self.known = [(NoiseSampler(noise.model, patch_size), noise.told) for noise in known]
        self.known_per_batch = math.ceil(known_share * batch) if known else 0
        without_noise = {profile.crop for profile in profiles} - set(self.noise)
        self.sampler = PatchSampler(images, patch_size, seed, exclude=without_noise)
        area = sum(images.crops[crop].pixels[..., 0].size for crop in self.noise)
        self.distinct_patches = max(LEAST_VALIDATION_PATCHES, math.ceil(area / patch_size**2))

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Mean RMSE of the patches: the root, so that faint noise counts beside strong."""
        rng = self.sampler.rng(_ADAPT, step)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        known = [self._renoised(rng, generator, of_known=True) for _ in range(self.known_per_batch)]
        new = [
            self._renoised(rng, generator, of_known=False) for _ in range(self.batch - len(known))
        ]
        patches = [*map(self._as_taught, known), *new]
        return self._rmse(network, self.distributed.shard_list(patches)).mean()

    def known_losses(self, network: nn.Module) -> Tensor:
        """RMSE of patches that get known noise, (N,)."""
        losses = []
        for i in range(self.validation_patches if self.known else 0):
            rng = self.sampler.rng(_REMEMBER, i)
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            losses.append(
                self._rmse(network, [self._renoised(rng, generator, of_known=True)]).cpu()
            )
        return torch.cat(losses) if losses else torch.zeros(0)

    def _renoised(
        self, rng: np.random.Generator, generator: torch.Generator, *, of_known: bool
    ) -> _Renoised:
        """Draw a patch of a denoised photo, and noise for it; or two views of one scene."""
        spec = self.sampler.draw(rng)
        crop = self.images.crops[spec.crop]
        if crop.views is not None and not of_known:
            own, others = (to_tensor(spec.cut(pixels)) for pixels in (crop.pixels, crop.views))
            return spec.augment(own), spec.augment(others), self.profiles[spec.crop].told
        target = to_tensor(spec.cut(self.profiles[spec.crop].denoised))  # (3, P, P)
        sampler, told = self.noise[spec.crop], self.profiles[spec.crop].told
        if of_known:
            sampler, told = self.known[int(rng.integers(len(self.known)))]
        noisy = (target + sampler.draw(target, generator)).clamp(0, 1)
        if crop.pixels.dtype == np.uint8:
            noisy = (noisy * 255).round() / 255
        return spec.augment(noisy), spec.augment(target), told

    def _as_taught(self, known: _Renoised) -> _Renoised:
        """Replace the clean patch by what the teacher says of the noisy one, if there is one."""
        noisy, clean, told = known
        if self.teacher is None:
            return known
        predict = _told(self.teacher, [told], self.device)
        with torch.no_grad():
            taught = single_pass(predict, noisy[None].to(self.device))[0].to(clean)
        return noisy, taught, told

    def _rmse(self, network: nn.Module, patches: Sequence[_Renoised]) -> Tensor:
        """Return the RMSE of each patch, (N,)."""
        noisy, clean, told = zip(*patches, strict=True)
        x, y = (torch.stack(side).to(self.device) for side in (noisy, clean))
        error = single_pass(_told(network, told, self.device), x) - y
        return (error.square().mean((1, 2, 3)) + self.loss_floor**2).sqrt()

    def validation_losses(self, network: nn.Module, factor: int = 1) -> Tensor:
        """RMSE of each patch in units of its noise, less the mean errors of its blocks; (1, N)."""
        losses = []
        for spec, generator in self._held_out(factor):
            denoised = to_tensor(spec.cut(self.profiles[spec.crop].denoised))
            e = self.noise[spec.crop].draw(denoised, generator)
            loss = self._against_views(network, spec, e)
            losses.append(self._recorrupted(network, spec, e) if loss is None else loss)
        return torch.stack(losses)[None]

    def own_noise_losses(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Return the same with the photos' own noise, moved, (N,), and the photo of each patch."""
        losses, photos = [], []
        for spec, generator in self._held_out(factor=1):
            noises = self.moved[spec.crop].take(spec, generator)
            loss = self._against_views(network, spec, noises[0])
            if loss is None:
                loss = torch.stack([self._recorrupted(network, spec, e) for e in noises]).mean()
            losses.append(loss)
            photos.append(self.images.crops[spec.crop].image)
        return torch.stack(losses), torch.tensor(photos)

    def _held_out(self, factor: int) -> Iterator[tuple[PatchSpec, torch.Generator]]:
        for i in range(min(factor * self.validation_patches, self.distinct_patches)):
            rng = self.sampler.rng(_VALIDATE, i)
            spec = self.sampler.draw(rng)
            yield spec, torch.Generator().manual_seed(int(rng.integers(2**62)))

    def _recorrupted(self, network: nn.Module, spec: PatchSpec, e: Tensor) -> Tensor:
        y = to_tensor(spec.cut(self.images.crops[spec.crop].pixels))  # (3, P, P)
        pair = torch.stack([y + e, y - e])  # (2, 3, P, P)
        told = self.profiles[spec.crop].told
        # The noise of the photo and as much again: their variances add.
        predict = _told(network, [told and told.scaled(2**0.5)] * 2, self.device)
        return self._in_units(
            single_pass(predict, pair.to(self.device)).float().cpu() - pair.flip(0), e
        )

    def _against_views(self, network: nn.Module, spec: PatchSpec, e: Tensor) -> Tensor | None:
        """Return the error against other views of the scene, in units of noise; None for photos."""
        crop = self.images.crops[spec.crop]
        if crop.views is None:
            return None
        own, others = (to_tensor(spec.cut(pixels)) for pixels in (crop.pixels, crop.views))
        predict = _told(network, [self.profiles[spec.crop].told], self.device)
        denoised = single_pass(predict, own[None].to(self.device)).float().cpu()
        return self._in_units(denoised - others, e)

    def _in_units(self, error: Tensor, e: Tensor) -> Tensor:
        """RMS of (B, 3, P, P), less the means of its blocks, in units of that of the noise `e`."""
        block_mean = F.avg_pool2d(error, self.dc_block)
        varying = error - F.interpolate(block_mean, scale_factor=self.dc_block)
        power = e.square().mean().clamp_min((0.1 / 255) ** 2)
        return (varying.square().mean() / power).sqrt()


def _told(
    network: nn.Module, noises: Sequence[PhotoNoise | None], device: torch.device
) -> Predictor:
    """Tell a network the noise of each patch, if it is told noise."""
    known = [noise for noise in noises if noise is not None]
    return partial(network, noise=PhotoNoise.stack(known).to(device)) if known else network
