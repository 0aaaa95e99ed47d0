"""Validation without clean images: which weights are kept, and whether any are."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from amsnet_cli.device import fast_precision
from amsnet_cli.fitting.objectives import Objective
from amsnet_cli.fitting.task import FitNetwork
from amsnet_cli.report.curve import CurvePoint

SIGNIFICANCE_Z = 2.0
"""Standard errors by which the validation loss must improve for a model to be written."""
LEAST_LOSS = 1e-3
"""Losses are compared as fractions of the start's, or of this where that is less."""
FINAL_VALIDATION_FACTOR = 4
"""The final comparison uses this many times more validation patches."""
FIRST_CHECK = 100
"""Steps before the loss is measured again, at least."""
CHECK_GROWTH = 1.25
"""The loss is measured again after so many times as many steps."""


def relative_improvement(
    before: Tensor, after: Tensor, photos: Tensor | None = None
) -> tuple[float, float]:
    """Return how far the mean loss fell, as a fraction of `before`, and its standard error.

    Args:
        before: (N,) losses of N patches.
        after: (N,) losses of the same patches, compared one by one.
        photos: (N,) int, of which photo each patch is, if patches of a photo may err together. The
            standard error is then that of independent photos, where it is larger.
    """
    # Estimated risks may be below 0: the sign and the significance stay right.
    improvement = (before - after) / before.mean().clamp_min(LEAST_LOSS)
    error = float(improvement.std()) / len(improvement) ** 0.5
    if photos is not None:
        error = max(error, _error_of_photos(improvement, photos))
    return float(improvement.mean()), error


def _error_of_photos(values: Tensor, photos: Tensor) -> float:
    """Cluster-robust standard error of the mean; 0 for one photo."""
    count = int((torch.bincount(photos) > 0).sum())
    if count < 2:
        return 0.0
    sums = torch.zeros(int(photos.max()) + 1, dtype=values.dtype)
    sums.index_add_(0, photos, values - values.mean())
    return float(sums.norm()) / len(values) * math.sqrt(count / (count - 1))


def patch_losses(
    objective: Objective,
    network: nn.Module,
    factor: int = 1,
    *,
    device: torch.device,
    bfloat16: bool,
) -> Tensor:
    """Return (V, N) float64 losses, see `Objective.validation_losses`.

    Args:
        objective: defines the loss.
        network: on `device`, in evaluation mode.
        factor: multiplies the number of patches.
        device: where to compute.
        bfloat16: whether convolutions may run in bfloat16.
    """
    with torch.inference_mode(), fast_precision(device, bfloat16):
        return objective.validation_losses(network, factor).double()


class Validator:
    """Measures the validation loss during training and keeps the best weights.

    Args:
        objective: defines the loss.
        network: before the first step.
        keep: the weights of the lowest loss, or the last; until there are last ones, the former.
        device: where to compute.
        bfloat16: whether convolutions may run in bfloat16.

    Attributes:
        curve: all points so far, the start's first.
        patch_losses: (N,) of each point.
        best: the point of the weights kept.
        best_network: the weights kept.
    """

    def __init__(
        self,
        objective: Objective,
        network: FitNetwork,
        *,
        keep: Literal["best", "last"],
        device: torch.device,
        bfloat16: bool,
    ) -> None:
        self.objective, self.keep = objective, keep
        self.device, self.bfloat16 = device, bfloat16
        self.patch_losses = [self.losses(network)[0]]
        loss = float(self.patch_losses[0].mean())
        self.best = CurvePoint(step=0, loss=loss, improvement=0.0, standard_error=0.0)
        self.best_network = copy.deepcopy(network)
        self.curve = [self.best]

    def losses(self, network: nn.Module, factor: int = 1) -> Tensor:
        """Return (V, N) float64 losses, see `Objective.validation_losses`."""
        return patch_losses(
            self.objective, network, factor, device=self.device, bfloat16=self.bfloat16
        )

    def is_due(self, step: int) -> bool:
        """Whether the loss should be measured after so many steps."""
        last = self.curve[-1].step
        return step >= max(last + FIRST_CHECK, CHECK_GROWTH * last)

    def check(self, network: FitNetwork, *, step: int, finished: bool) -> CurvePoint:
        """Measure the loss, add it to the curve, and keep the weights if they are to be kept."""
        losses = self.losses(network)[0]
        self.patch_losses.append(losses)
        improvement, error = relative_improvement(self.patch_losses[0], losses)
        point = CurvePoint(
            step=step, loss=float(losses.mean()), improvement=improvement, standard_error=error
        )
        self.curve.append(point)
        if point.loss < self.best.loss or (finished and self.keep == "last"):
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

    def known_losses(self, network: nn.Module) -> Tensor:
        """Return (N,) float64 losses, see `Objective.known_losses`."""
        with torch.inference_mode(), fast_precision(self.device, self.bfloat16):
            return self.objective.known_losses(network).double()

    def doubt(self, start: nn.Module, fitted: nn.Module) -> str:
        """Return why an improvement may be none, by the photos' own noise, or "".

        Args:
            start: on `device`, in evaluation mode.
            fitted: likewise.
        """
        with torch.inference_mode(), fast_precision(self.device, self.bfloat16):
            before, photos = self.objective.own_noise_losses(start)
            after, _ = self.objective.own_noise_losses(fitted)
        if not len(before):
            return ""
        improvement, error = relative_improvement(before, after)
        if improvement <= SIGNIFICANCE_Z * error:
            return "it gains with noise as measured, but not with that of the photos themselves"
        improvement, error = relative_improvement(before, after, photos)
        if improvement <= SIGNIFICANCE_Z * error:
            return "some photos gain, others do not"
        return ""

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs."""
        return {
            "patch_losses": self.patch_losses,
            "curve": [dataclasses.asdict(point) for point in self.curve],
            "best": dataclasses.asdict(self.best),
            "best_network": self.best_network.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.patch_losses = state["patch_losses"]
        self.curve = [CurvePoint(**point) for point in state["curve"]]
        self.best = CurvePoint(**state["best"])
        self.best_network.load_state_dict(state["best_network"])
