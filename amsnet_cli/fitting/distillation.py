"""Distil what a network says of hidden pixels into its single pass, which is faster to run.

The student sees every pixel, and its target is the teacher's multi-mask output with masks drawn
anew for each patch. By the squared error it learns their mean over all masks, so its one pass is
what many repeats would give (Hinton et al., "Distilling the knowledge in a neural network", 2015).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amsnet_cli.core.masks import partition_masks
from amsnet_cli.core.multi_mask import multi_mask_pass, single_pass
from amsnet_cli.core.networks import MaskedNetwork
from amsnet_cli.device import fast_precision
from amsnet_cli.fitting.budget import Budget
from amsnet_cli.fitting.images import ImageCrop, ImageFolder, to_tensor
from amsnet_cli.fitting.patches import PatchSampler
from amsnet_cli.fitting.settings import MaskedSettings
from amsnet_cli.fitting.trainer import Trainer, TrainerConfig


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """Numbers of `distil`.

    Attributes:
        patch_size: side in pixels.
        batch: patches per step.
        training: of the student.
        unlike: how far the student may end from the mean of the teacher's outputs, in power, as a
            multiple of how far one of them is on average. One that had too few steps is farther
            away, and the masks are kept.
        compared: batches on which that is measured.
    """

    patch_size: int = 128
    batch: int = 4
    training: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(
            optimizer="muon",
            learning_rate=2e-3,
            warmup_steps=20,
            beta2=0.99,
            grad_clip=1.0,
            ema_decay=0.99,
        )
    )
    unlike: float = 2.0
    compared: int = 4


def distil(
    teacher: MaskedNetwork,
    images: ImageFolder[ImageCrop],
    settings: MaskedSettings,
    *,
    device: torch.device,
    on_progress: Callable[[float], None],
    stopped: Callable[[], bool] = lambda: False,
    config: DistillationConfig = DistillationConfig(),
) -> MaskedNetwork | None:
    """Return a network whose single pass does what the teacher's multi-mask pass does.

    Args:
        teacher: trained on hidden pixels, in evaluation mode.
        images: the noisy photos.
        settings: of the fit, whose last part this is.
        device: where to compute.
        on_progress: called with the share done, in [0, 1].
        stopped: asked before each step; when true, there is no student.
        config: see `DistillationConfig`.

    Returns:
        The student, in evaluation mode; None where it has not become like the teacher.
    """
    sampler = PatchSampler(images, config.patch_size, settings.seed)
    trainer = Trainer(copy.deepcopy(teacher), config.training, device=device)

    def draw(key: str, index: int, n_targets: int) -> tuple[Tensor, list[Tensor]]:
        """Return noisy patches, (B, 3, P, P), and outputs of the teacher with other masks each."""
        rng = sampler.rng(key, index)
        specs = [sampler.draw(rng) for _ in range(config.batch)]
        noisy = torch.stack(
            [s.augment(to_tensor(s.cut(images.crops[s.crop].pixels))) for s in specs]
        ).to(device)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        size = (config.batch, config.patch_size, config.patch_size)
        n_masks, stride = settings.n_masks, settings.pd_stride_test
        masks = [partition_masks(n_masks, size, generator).to(device) for _ in range(n_targets)]
        with torch.no_grad(), fast_precision(device, config.training.bfloat16):
            return noisy, [multi_mask_pass(teacher, noisy, m, n_masks, stride) for m in masks]

    share, started = settings.distilled_share, time.monotonic()
    own = replace(settings, minutes=settings.minutes * share, steps=max(1, settings.steps * share))
    budget = Budget(own, fall_from=0.0)
    while (progress := budget.progress(trainer.steps, time.monotonic() - started)) < 1:
        if stopped():
            return None
        on_progress(progress)
        noisy, [target] = draw("distil", trainer.steps, 1)

        def loss_of(network: nn.Module, noisy: Tensor = noisy, target: Tensor = target) -> Tensor:
            return F.mse_loss(single_pass(network, noisy), target)

        trainer.step(loss_of, progress)

    distance = spread = 0.0
    for index in range(config.compared):
        noisy, [target, other] = draw("compare", index, 2)
        with torch.no_grad(), fast_precision(device, config.training.bfloat16):
            output = single_pass(trainer.ema, noisy)
        # Half of what two outputs differ by is what each differs from their mean.
        one = float(F.mse_loss(target, other)) / 2
        spread += one
        distance += float(F.mse_loss(output, target)) - one
    return trainer.ema if distance < config.unlike * spread else None
