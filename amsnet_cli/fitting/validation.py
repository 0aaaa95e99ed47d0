"""Validation without clean images: which weights are kept, and whether any are."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor, nn

from amsnet_cli.device import fast_precision
from amsnet_cli.fitting.objectives import Objective
from amsnet_cli.fitting.task import FitNetwork
from amsnet_cli.report.curve import CurvePoint

SIGNIFICANCE_Z = 2.0
"""Standard errors by which the validation loss must improve for a model to be written."""
_LEAST_LOSS = 1e-3
FINAL_VALIDATION_FACTOR = 4
"""The final comparison uses this many times more validation patches."""


def relative_improvement(before: Tensor, after: Tensor) -> tuple[float, float]:
    """Return how far the mean loss fell, as a fraction of `before`, and its standard error.

    Args:
        before: (N,) losses of N patches.
        after: (N,) losses of the same patches, compared one by one.
    """
    # Estimated risks may be below 0: the sign and the significance stay right.
    improvement = (before - after) / before.mean().clamp_min(_LEAST_LOSS)
    return float(improvement.mean()), float(improvement.std()) / len(improvement) ** 0.5


class Validator:
    """Measures the validation loss during training and keeps the best weights.

    Args:
        objective: defines the loss.
        network: before the first step.
        checks: how many times to measure over the whole training.
        keep: the weights of the lowest loss, or the last.
        device: where to compute.
        bfloat16: whether convolutions may run in bfloat16.

    Attributes:
        curve: all points so far, the start's first.
        best: the point of the weights kept.
        best_network: the weights kept.
    """

    def __init__(
        self,
        objective: Objective,
        network: FitNetwork,
        *,
        checks: int,
        keep: Literal["best", "last"],
        device: torch.device,
        bfloat16: bool,
    ) -> None:
        self.objective, self.checks, self.keep = objective, checks, keep
        self.device, self.bfloat16 = device, bfloat16
        self.checks_done = 0
        self.start_losses = self.losses(network)[0]
        loss = float(self.start_losses.mean())
        self.best = CurvePoint(step=0, loss=loss, improvement=0.0, standard_error=0.0)
        self.best_network = copy.deepcopy(network)
        self.curve = [self.best]

    def losses(self, network: nn.Module, factor: int = 1) -> Tensor:
        """Return (V, N) float64 losses, see `Objective.validation_losses`."""
        with torch.inference_mode(), fast_precision(self.device, self.bfloat16):
            return self.objective.validation_losses(network, factor).double()

    def is_due(self, progress: float) -> bool:
        """Whether the loss should be measured at this fraction of the training."""
        return int(progress * self.checks) > self.checks_done

    def check(self, network: FitNetwork, *, step: int, progress: float) -> CurvePoint:
        """Measure the loss, add it to the curve, and keep the weights if they are best."""
        self.checks_done = int(progress * self.checks)
        losses = self.losses(network)[0]
        improvement, error = relative_improvement(self.start_losses, losses)
        point = CurvePoint(
            step=step, loss=float(losses.mean()), improvement=improvement, standard_error=error
        )
        self.curve.append(point)
        if point.loss < self.best.loss or self.keep == "last":
            self.best = point
            self.best_network.load_state_dict(network.state_dict())
        return point

    def compare(self, start_losses: Tensor, losses: Tensor) -> bool:
        """Correct `best` by the final losses; return whether the improvement is significant.

        Args:
            start_losses: (V, N), as from `losses`.
            losses: (V, N) of the weights kept. All versions must improve.
        """
        pairs = list(map(relative_improvement, start_losses, losses))
        improvement, error = pairs[0]
        self.best = dataclasses.replace(self.best, improvement=improvement, standard_error=error)
        return all(improvement > SIGNIFICANCE_Z * error for improvement, error in pairs)

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs."""
        return {
            "checks_done": self.checks_done,
            "curve": [dataclasses.asdict(point) for point in self.curve],
            "best": dataclasses.asdict(self.best),
            "best_network": self.best_network.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.checks_done = state["checks_done"]
        self.curve = [CurvePoint(**point) for point in state["curve"]]
        self.best = CurvePoint(**state["best"])
        self.best_network.load_state_dict(state["best_network"])
