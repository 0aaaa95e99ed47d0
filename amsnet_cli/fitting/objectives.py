"""The two ways to learn from noisy photos alone: hide and predict, or renoise and denoise.

A scheme gives a loss to train by, and one on what is held out, for each of the same patches every
time it is asked, so that two states of a network can be compared patch by patch.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from amsnet_cli.core.losses import masked_l1, prior_smoothing
from amsnet_cli.core.masks import partition_masks
from amsnet_cli.core.multi_mask import multi_mask_pass, single_pass
from amsnet_cli.core.pixel_shuffle import pd_up
from amsnet_cli.fitting.distributed import Crew
from amsnet_cli.fitting.images import Shots
from amsnet_cli.fitting.noise_profile import Look
from amsnet_cli.fitting.patches import Cut, Cutter, Patches
from amsnet_cli.noise.synthesis import NoiseSampler
from amsnet_cli.photos.photo import Pixels

_EVEN = 16
_MASKED_CHECKS = 24
_RENOISED_CHECKS = 128


class Scheme(Protocol):
    """How a network learns from noisy photos."""

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Compute this process's part of a step's loss, a scalar; called with (noisy, hidden)."""

    def held_out(self, network: nn.Module, times: int = 1) -> Tensor:
        """Compute the loss on each held-out patch, alike for every call; `times` as many."""


class Hiding:
    """The paper's scheme: hide pixels, predict them, compare with their noisy selves.

    Args:
        patches: to learn from.
        batch: patches a step, of all processes together.
        crew: the processes that share the fit.
        device: where to compute.
    """

    def __init__(self, patches: Patches, batch: int, crew: Crew, device: torch.device) -> None:
        self.patches, self.batch, self.crew, self.device = patches, batch, crew, device

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """The single mask scheme, on this process's part of the batch."""
        draw = self._draw(self.batch, ("train", step))
        noisy, hidden, held_out = (self.crew.share_of(x) for x in draw)
        counts = hidden & ~held_out
        loss = masked_l1(network(noisy, hidden | held_out), noisy, counts)
        if self.crew.size > 1:  # Parts hide more or less; the mean counts each pixel alike.
            whole = (draw[1] & ~draw[2]).sum()
            loss = loss * (counts.sum() * self.crew.size / whole)
        return loss

    def held_out(self, network: nn.Module, times: int = 1) -> Tensor:
        """Masked L1 on held-out pixels of a fixed set of patches under fixed masks."""
        losses = []
        for i in range(times * _MASKED_CHECKS):
            noisy, hidden, held_out = self._draw(1, ("held out", i))
            losses.append(masked_l1(network(noisy, hidden | held_out), noisy, held_out).cpu())
        return torch.stack(losses)

    def _draw(self, count: int, key: tuple[str, int]) -> list[Tensor]:
        return [x.to(self.device) for x in self.patches.draw(count, key)]


class Smoothing(Hiding):
    """Prior smoothing of the multi-mask pass's output, joined (variant P).

    Args:
        patches: to learn from.
        batch: patches a step, of all processes together.
        n_masks: k.
        seed: of the masks.
        crew: the processes that share the fit.
        device: where to compute.
    """

    def __init__(
        self,
        patches: Patches,
        batch: int,
        n_masks: int,
        seed: int,
        crew: Crew,
        device: torch.device,
    ) -> None:
        super().__init__(patches, batch, crew, device)
        self.n_masks, self.seed = n_masks, seed

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Stay near the noisy picture, with little total variation."""
        draw = self._draw(self.batch, ("train", step))
        noisy, _, held_out = (self.crew.share_of(x) for x in draw)
        generator = torch.Generator().manual_seed(((self.seed << 32) + step) % 2**63)
        size = (len(draw[0]), noisy.shape[-2], noisy.shape[-1])
        index = partition_masks(self.n_masks, size, generator)
        denoised = multi_mask_pass(
            lambda x, hidden: network(x, hidden | held_out),
            noisy, self.crew.share_of(index).to(self.device), self.n_masks,
        )  # fmt: skip
        # What is held out stays so: there the output is its own target.
        target = torch.where(held_out, denoised.detach(), noisy)
        stride, side = self.patches.stride, self.patches.cutter.side
        return prior_smoothing(
            pd_up(denoised, stride, (side, side)), pd_up(target, stride, (side, side))
        )


class Renoising:
    """Make denoised photos noisy again, and learn to undo it.

    The noise is each photo's own, as measured on it (`core.noise_model`), so a network that can
    already denoise learns what noise these photos have, in its single pass. That is half of
    iterative data refinement (Zhang et al., CVPR 2022), which trains from scratch.

    What is held out is the noise of the photos themselves: of a noisy patch y and drawn noise e,
    the network sees y + e, and the result is compared with y - e, and the other way round. The
    noises of the two are uncorrelated, so the comparison is with the clean picture, but for a
    constant (recorrupted-to-recorrupted; Pang et al., CVPR 2021). That holds where e is as strong
    as the noise of y: a stronger e favours smoothing, a weaker one sparing.

    Args:
        shots: to learn from.
        looks: at all their windows.
        side: of a patch in pixels.
        batch: patches a step, of all processes together.
        seed: of everything drawn.
        crew: the processes that share the fit.
        device: where to compute.
    """

    def __init__(
        self,
        shots: Shots,
        looks: list[Look],
        side: int,
        batch: int,
        seed: int,
        crew: Crew,
        device: torch.device,
    ) -> None:
        self.shots, self.looks, self.batch = shots, looks, batch
        self.crew, self.device = crew, device
        self.sources = {
            look.window: NoiseSampler(look.noise, side) for look in looks if look.noise is not None
        }
        unknown = {look.window for look in looks} - set(self.sources)
        self.cutter = Cutter(shots, side, seed, without=unknown)

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Root mean square error of each patch, so that faint noise counts beside strong."""
        rng = self.cutter.rng(("renoise", step))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noisy, clean = [], []
        for _ in range(self.batch):
            cut = self.cutter.draw(rng)
            target = _upright(cut, self.looks[cut.window].denoised)
            drawn = self.sources[cut.window].draw(target, generator)
            again = (target + drawn).clamp(0, 1)
            if self.shots.windows[cut.window].pixels.dtype == np.uint8:
                again = (again * 255).round() / 255
            noisy.append(_turned(cut, again))
            clean.append(_turned(cut, target))
        x, y = (self.crew.share_of(torch.stack(z)).to(self.device) for z in (noisy, clean))
        error = (single_pass(network, x) - y).square().mean((1, 2, 3))
        return (error + (0.5 / 255) ** 2).sqrt().mean()

    def held_out(self, network: nn.Module, times: int = 1) -> Tensor:
        """Root mean square error in units of the noise, brightness of 16 x 16 cells aside."""
        losses = []
        for i in range(times * _RENOISED_CHECKS):
            rng = self.cutter.rng(("held out", i))
            cut = self.cutter.draw(rng)
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            y = _upright(cut, self.shots.windows[cut.window].pixels)
            denoised = _upright(cut, self.looks[cut.window].denoised)
            e = self.sources[cut.window].draw(denoised, generator)
            both = torch.stack([y + e, y - e])
            error = _uneven(single_pass(network, both.to(self.device)).float().cpu() - both.flip(0))
            power = e.square().mean().clamp_min((0.1 / 255) ** 2)
            losses.append((error.square().mean() / power).sqrt())
        return torch.stack(losses)


def _upright(cut: Cut, pixels: Pixels) -> Tensor:
    scale = 1.0 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
    part = cut.upright(pixels).astype(np.float32) / np.float32(scale)
    return torch.from_numpy(part).permute(2, 0, 1)


def _turned(cut: Cut, patch: Tensor) -> Tensor:
    turned = torch.rot90(patch, cut.turns, (1, 2))
    return turned.flip(2) if cut.mirrored else turned


def _uneven(error: Tensor) -> Tensor:
    """Take the mean of each cell of (B, C, H, W) away: lopsided noise shifts it.

    See `core.brightness`, which sets that right.
    """
    mean = nn.functional.avg_pool2d(error, _EVEN)
    return error - nn.functional.interpolate(mean, scale_factor=_EVEN)
