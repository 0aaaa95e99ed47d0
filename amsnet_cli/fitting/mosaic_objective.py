"""Training objectives on mosaics, whose noise is white and follows a known law."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amsnet_cli.core.networks.mosaic import MosaicNetwork
from amsnet_cli.fitting.distributed import DistributedContext
from amsnet_cli.fitting.mosaic_patches import MosaicPatch, MosaicPatches
from amsnet_cli.fitting.settings import MosaicTerm
from amsnet_cli.noise.sensor import SensorNoise

# Part of the seeds: other words would draw other patches.
_TRAIN, _VALIDATE = "mosaics", "held out photosites"


@dataclass(frozen=True, kw_only=True)
class Example:
    """What the network is given of a patch, and what its output is compared with.

    All are (1, P, P) but `colours`, (3, P, P); in a batch they have one dimension more.

    Attributes:
        given: noisy light.
        a: of the law of its noise, as the network is told it.
        b: likewise.
        colours: as `MosaicNetwork` takes them.
        hidden: bool.
        target: light.
        variance: unit of the squared error.
        counts: bool, where the error counts.
    """

    given: Tensor
    a: Tensor
    b: Tensor
    colours: Tensor
    hidden: Tensor
    target: Tensor
    variance: Tensor
    counts: Tensor


class MosaicObjective:
    """Train a network for mosaics on noisy ones alone, and validate it likewise.

    The terms of the training loss; the patches of a batch take turns:

    - "recorrupt": recorrupted-to-recorrupted (Pang et al., CVPR 2021). Noise e is drawn for a noisy
      y. The network sees y + alpha e, and its output is compared with y - e / alpha. Where e has
      the variance of the noise of y, the noises of the two are uncorrelated, so this is the error
      against the clean mosaic, up to a constant. That is exact for mosaics, where noise is white
      and its law is known. y + alpha e has noise of the same law, 1 + alpha^2 times as strong, and
      the network is told so.
    - "renoise": noise is drawn for the first denoised version, which is to be found again (half of
      iterative data refinement; Zhang et al., CVPR 2022).
    - "mask": the paper's masked prediction, at hidden photosites, without sub-images.

    Errors are squared and in units of the noise's variance. That of "renoise" is the root of each
    patch's mean, so that smooth patches count beside textured ones; the others' targets are noisy,
    and only the expectation of a square is right. Photosites that are held out are in no
    training loss. Validation is by recorruption on them, in patches that do not overlap.

    Args:
        patches: to train on.
        terms: of the training loss.
        batch: patches per step, over all processes.
        alpha: see above; smaller is closer to the noise of the photos, with noisier targets.
        mask_ratio: fraction of the photosites that "mask" hides.
        law_uncertainty: factor by which the variance of the noise may be wrong, up or down.
        distributed: the processes.
        device: where to compute.
        validation_patches: how many, for `factor` 1. Where there are fewer, each is recorrupted
            several times.
        loss_floor: root mean squared error, in standard deviations of the noise, below which a
            patch counts as denoised.
    """

    def __init__(
        self,
        patches: MosaicPatches,
        *,
        terms: tuple[MosaicTerm, ...],
        batch: int,
        alpha: float,
        mask_ratio: float,
        law_uncertainty: float,
        distributed: DistributedContext,
        device: torch.device,
        validation_patches: int = 64,
        loss_floor: float = 0.02,
    ) -> None:
        self.patches, self.terms, self.batch = patches, terms, batch
        self.alpha, self.mask_ratio = alpha, mask_ratio
        self.law_uncertainty = law_uncertainty
        self.distributed, self.device = distributed, device
        self.validation_patches, self.loss_floor = validation_patches, loss_floor

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Mean over patches of the squared error, or its root for "renoise"."""
        rng = self.patches.sampler.rng(_TRAIN, step)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        examples, terms = [], [self.terms[i % len(self.terms)] for i in range(self.batch)]
        for term in terms:
            patch = self.patches.draw(rng)
            example = self._example(term, patch, generator)
            trained = example.counts & ~patch.held_out
            examples.append(dataclasses.replace(example, counts=trained))

        def own(tensor: Tensor) -> Tensor:
            return self.distributed.shard(tensor).to(self.device)

        losses = self._losses(network, _batch(examples, own))
        rooted = own(torch.tensor([term == "renoise" for term in terms]))
        return torch.where(rooted, (losses + self.loss_floor**2).sqrt(), losses).mean()

    def validation_losses(self, network: nn.Module, factor: int = 1) -> Tensor:
        """Risk of each patch by recorruption: its mean squared error against the clean mosaic.

        With f and f' for the outputs for y + alpha e and y - alpha e, the loss of "recorrupt" is
        A + D, but for a constant: A is the mean of (f - y)^2, D that of e (f - f') / alpha, which
        measures how far the output follows the noise. If the noise is k times as strong as the law
        says, the risk is A + k (D - 1) in units of the law's variance.

        Returns:
            (3, N): for k = 1 and, as the law is an estimate, for k = 1 / `law_uncertainty` and
            k = `law_uncertainty`.
        """
        most = factor * self.validation_patches
        patches = self.patches.cover(most)
        repeats = -(-most // len(patches))
        factors = torch.tensor([1, 1 / self.law_uncertainty, self.law_uncertainty])
        risks = []
        for number, patch in enumerate(patches):
            rng = self.patches.sampler.rng(_VALIDATE, number)
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            noise = torch.stack([_noise(patch, generator) for _ in range(repeats)])
            signed = torch.cat([noise, -noise])
            counts = patch.counts & patch.held_out
            examples = [
                dataclasses.replace(self._recorrupted(patch, e), counts=counts) for e in signed
            ]
            batch = _batch(examples, lambda tensor: tensor.to(self.device))
            output = self._output(network, batch).cpu()
            weight = counts / patch.variance / counts.sum().clamp_min(1)
            residual = ((output - patch.noisy).square() * weight).sum((1, 2, 3)).mean()
            difference = output[:repeats] - output[repeats:]
            follows = (noise * difference / self.alpha * weight).sum((1, 2, 3)).mean()
            risks.append(residual + factors * (follows - 1))
        return torch.stack(risks, 1)

    def own_noise_losses(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """The noise of mosaics is of the model's kind."""
        return torch.zeros(0), torch.zeros(0, dtype=torch.int64)

    def known_losses(self, network: nn.Module) -> Tensor:
        """Nothing is known."""
        return torch.zeros(0)

    def _example(self, term: MosaicTerm, patch: MosaicPatch, generator: torch.Generator) -> Example:
        if term == "recorrupt":
            return self._recorrupted(patch, _noise(patch, generator))
        if term == "renoise":
            given = patch.denoised + _noise(patch, generator)
            return _example(patch, given=given, target=patch.denoised)
        hidden = torch.rand(patch.noisy.shape, generator=generator) < self.mask_ratio
        return dataclasses.replace(
            _example(patch, given=patch.noisy, target=patch.noisy),
            hidden=hidden, counts=patch.counts & hidden,
        )  # fmt: skip

    def _recorrupted(self, patch: MosaicPatch, noise: Tensor) -> Example:
        given, target = patch.noisy + self.alpha * noise, patch.noisy - noise / self.alpha
        stronger = 1 + self.alpha**2
        return dataclasses.replace(
            _example(patch, given=given, target=target),
            a=stronger * torch.as_tensor(patch.told.a), b=stronger * torch.as_tensor(patch.told.b),
        )  # fmt: skip

    def _losses(self, network: nn.Module, batch: Example) -> Tensor:
        """Return (B,) mean squared errors where they count; 0 where nothing does."""
        error = self._output(network, batch) - batch.target
        variance = batch.variance
        if batch.hidden.any():
            # What a hidden photosite was filled with errs as well as the noise there.
            inside = self.distributed.unwrap(network)
            assert isinstance(inside, MosaicNetwork)
            law = SensorNoise(a=batch.a, b=batch.b)
            given = law.stabilise(batch.given)
            sigma = inside.sigma_given(given, law.sigma, batch.colours, batch.hidden)
            variance = variance * (sigma / law.sigma).square()
        counts = batch.counts.float()
        squares = error.square() / variance * counts
        return squares.sum((1, 2, 3)) / counts.sum((1, 2, 3)).clamp_min(1)

    @staticmethod
    def _output(network: nn.Module, batch: Example) -> Tensor:
        """Return the light that the network gives, (B, 1, P, P)."""
        law = SensorNoise(a=batch.a, b=batch.b)
        output = network(law.stabilise(batch.given), law.sigma, batch.colours, batch.hidden)
        return law.unstabilise(output.float())


def _noise(patch: MosaicPatch, generator: torch.Generator) -> Tensor:
    """Draw noise as strong as the patch's."""
    return patch.variance.sqrt() * torch.randn(patch.noisy.shape, generator=generator)


def _example(patch: MosaicPatch, *, given: Tensor, target: Tensor) -> Example:
    return Example(
        given=given, a=torch.as_tensor(patch.told.a), b=torch.as_tensor(patch.told.b),
        colours=patch.colours, hidden=torch.zeros_like(patch.counts), target=target,
        variance=patch.variance, counts=patch.counts,
    )  # fmt: skip


def _batch(examples: Sequence[Example], place: Callable[[Tensor], Tensor]) -> Example:
    """Stack examples, and apply `place` to each stack."""
    names = [field.name for field in dataclasses.fields(Example)]
    return Example(**{n: place(torch.stack([getattr(e, n) for e in examples])) for n in names})
