"""Training objectives without clean images: masked prediction, its smoothing, noise adaptation.

Each computes a loss to train with, and the validation loss of each of a fixed set of patches, so
that two networks can be compared patch by patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from amsnet_cli.core.losses import masked_l1, prior_smoothing
from amsnet_cli.core.masks import partition_masks
from amsnet_cli.core.multi_mask import multi_mask_pass
from amsnet_cli.core.pixel_shuffle import pd_up
from amsnet_cli.fitting.distributed import DistributedContext
from amsnet_cli.fitting.patches import MaskedPatches

# Part of the seeds: other words would draw other patches.
_TRAIN, _VALIDATE = "train", "held out"


class Objective(Protocol):
    """What a network is trained to do."""

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Return this process's part of a step's loss, a scalar.

        Args:
            network: called with (noisy, mask).
            step: draws the batch.
        """

    def validation_losses(self, network: nn.Module, factor: int = 1) -> Tensor:
        """Return (V, N) losses of N validation patches, the same in every call.

        There may be several versions of what cannot be known; the first is the most likely one. An
        improvement counts if it is one in all of them.

        Args:
            network: in evaluation mode.
            factor: multiplies the number of patches.
        """

    def own_noise_losses(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Return (N,) losses without any model of the noise, and (N,) int, the photo of each patch.

        Empty where `validation_losses` need no model.

        Args:
            network: in evaluation mode.
        """

    def known_losses(self, network: nn.Module) -> Tensor:
        """Return (N,) losses on noise that must not be forgotten, the same patches in every call.

        Args:
            network: in evaluation mode.
        """


@dataclass(frozen=True, kw_only=True)
class MaskedPrediction:
    """The paper's single mask scheme: predict masked pixels, compare with the noisy ones.

    Attributes:
        patches: to train on.
        batch: patches per step, over all processes.
        distributed: the processes.
        device: where to compute.
        validation_patches: how many, for `factor` 1.
    """

    patches: MaskedPatches
    batch: int
    distributed: DistributedContext
    device: torch.device
    validation_patches: int = 24

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Masked L1 over the masked pixels that are not for validation."""
        batch = self._draw(self.batch, _TRAIN, step)
        noisy, mask, validation = (self.distributed.shard(x) for x in batch)
        counted = mask & ~validation
        loss = masked_l1(network(noisy, mask | validation), noisy, counted)
        if self.distributed.world_size > 1:
            # Shards have more or fewer masked pixels; weighted so that each pixel counts the same.
            in_batch = (batch[1] & ~batch[2]).sum()
            loss = loss * (counted.sum() * self.distributed.world_size / in_batch)
        return loss

    def validation_losses(self, network: nn.Module, factor: int = 1) -> Tensor:
        """Masked L1 over the validation pixels of each patch, (1, N)."""
        losses = []
        for i in range(factor * self.validation_patches):
            noisy, mask, validation = self._draw(1, _VALIDATE, i)
            losses.append(masked_l1(network(noisy, mask | validation), noisy, validation).cpu())
        return torch.stack(losses)[None]

    def own_noise_losses(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Masked pixels need no model."""
        return torch.zeros(0), torch.zeros(0, dtype=torch.int64)

    def known_losses(self, network: nn.Module) -> Tensor:
        """Nothing is known."""
        return torch.zeros(0)

    def _draw(self, count: int, key: str, index: int) -> list[Tensor]:
        return [x.to(self.device) for x in self.patches.draw(count, key, index)]


@dataclass(frozen=True, kw_only=True)
class TotalVariationFinetune(MaskedPrediction):
    """The paper's variant P: the multi-mask output, close to the noisy image but smooth.

    Attributes:
        n_masks: k.
        seed: of the masks.
    """

    n_masks: int
    seed: int

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """L1 distance to the noisy patch plus total variation (`core.losses.prior_smoothing`)."""
        batch = self._draw(self.batch, _TRAIN, step)
        noisy, _, validation = (self.distributed.shard(x) for x in batch)
        generator = torch.Generator().manual_seed(((self.seed << 32) + step) % 2**63)
        shape = (len(batch[0]), noisy.shape[-2], noisy.shape[-1])
        mask_index = partition_masks(self.n_masks, shape, generator)
        denoised = multi_mask_pass(
            lambda x, mask: network(x, mask | validation),
            noisy, self.distributed.shard(mask_index).to(self.device), self.n_masks,
        )  # fmt: skip
        # Validation pixels stay unseen: there the output is its own target.
        target = torch.where(validation, denoised.detach(), noisy)
        stride, size = self.patches.pd_stride, self.patches.sampler.size
        return prior_smoothing(
            pd_up(denoised, stride, (size, size)), pd_up(target, stride, (size, size))
        )
