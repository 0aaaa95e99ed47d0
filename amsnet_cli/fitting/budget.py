"""How far a fit has come: by steps, by time, or by a validation loss that has levelled off."""

from __future__ import annotations

import math

from amsnet_cli.fitting.settings import FitSettings


class Budget:
    """Turns steps and seconds into a fraction of the training, which sets the learning rate.

    Where the settings say neither steps nor minutes, the learning rate stays constant until the
    validation loss has levelled off. Then the fit is one of as many steps as put the beginning of
    the fall there, and ends as a fit of so many steps would: with the same bytes.

    Args:
        settings: of the fit.
        fall_from: fraction of the training after which the learning rate falls.

    Attributes:
        steps: optimizer steps in all, infinite as long as they are not known.
    """

    def __init__(self, settings: FitSettings, fall_from: float) -> None:
        self._until_level, self._seconds = settings.until_level, 60 * settings.minutes
        self.steps, self.fall_from = settings.steps, fall_from

    def progress(self, steps: int, seconds: float) -> float:
        """Fraction of the training done after so many steps and seconds, in [0, 1]."""
        return min(1.0, max(steps / self.steps, seconds / self._seconds))

    @property
    def is_open(self) -> bool:
        """Whether the loss is still to level off."""
        return self._until_level and math.isinf(self.steps)

    def end_at(self, steps: float) -> None:
        """Make it a fit of so many steps, if it is open."""
        if self.is_open:
            self.steps = steps
