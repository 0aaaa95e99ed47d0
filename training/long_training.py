"""Numbers, start and length of long trainings; the step is `amsnet_cli.fitting.trainer`."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from amsnet_cli.fitting.trainer import TrainerConfig


def numbers(rate: float, decay: float) -> TrainerConfig:
    """Return what trains `photo` and `raw`.

    Args:
        rate: learning rate, after 300 steps of warm-up.
        decay: last share of the training, in which it falls to 0.
    """
    return TrainerConfig(
        optimizer="muon", learning_rate=rate, fall_from=1 - decay, warmup_steps=300, beta2=0.99,
        grad_clip=0.5, ema_decay=0.999,
    )  # fmt: skip


def load_smaller(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load the weights of a network of the same shape, or one with fewer residual blocks.

    Blocks that it lacks change nothing at first: the last of their convolutions is zero.

    Raises:
        SystemExit: it has another shape.
    """
    missing, unexpected = network.load_state_dict(state, strict=False)
    if unexpected or any(".first." not in key and ".second." not in key for key in missing):
        raise SystemExit("the model to start from has another shape")
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for key in missing:
            if ".second." in key:
                parameters[key].zero_()


def budget(minutes: float, steps: int, first: int = 0) -> Iterator[tuple[int, float]]:
    """Count steps until the minutes or the steps are used, each with the share that is used."""
    started, step, progress = time.monotonic(), first, 0.0
    while progress < 1:
        yield step, progress
        step += 1
        progress = max((time.monotonic() - started) / 60 / minutes, (step - first) / steps)
