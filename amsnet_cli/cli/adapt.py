"""`amsnet denoise --adapt`: a model fitted to the photos at hand, used at once and not kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from amsnet_cli.cli.console import say
from amsnet_cli.errors import PhotoError, UsageError

if TYPE_CHECKING:
    from amsnet_cli.fitting.fit import FitResult

PERFECT_LOSS = 2**0.5
"""Validation loss of a network without error on developed photos (`NoiseAdaptation`). Less means
that the photos have less noise than was measured, as where black clips it: such a fit may harm."""


@contextmanager
def adapted_weights(
    weights: str | None,
    photos: Sequence[Path],
    seconds: float | None,
    *,
    raw: Literal["mosaic", "developed"],
    device: str,
    seed: int,
    quiet: bool,
) -> Iterator[str | Path | None]:
    """Fit weights to photos, and yield the model file, which exists until the end.

    Args:
        weights: to start from; None for the bundled ones.
        photos: all that will be denoised.
        seconds: of training; None to yield `weights` as they are.
        raw: the stage at which RAW files are denoised.
        device: name of where to compute, see `choose_device`.
        seed: of all random numbers.
        quiet: say nothing.

    Yields:
        The weights to use: as given where the photos gain nothing for certain, or cannot be read.

    Raises:
        UsageError: RAW files among other photos, or weights that cannot be adapted.
        AmsnetError: see `fitting.fit.fit`.
    """
    if seconds is None:
        yield weights
        return
    from amsnet_cli.cli.fit_progress import loss_change

    with TemporaryDirectory(prefix="amsnet-") as place:
        try:
            result = _fit(
                weights, photos, seconds, Path(place), raw=raw, device=device, seed=seed,
                quiet=quiet,
            )  # fmt: skip
            reason = result.reason or _doubt(result)
        except PhotoError as error:  # Denoising will say of each photo what is wrong.
            result, reason = None, str(error)
        fitted = result.model if result and not reason else None
        if not quiet and result and fitted and result.best:
            say(
                f"adapted to {result.photos} photo{'s' * (result.photos > 1)}: {result.steps} "
                f"steps in {result.seconds:.0f} s, validation loss {loss_change(result.best)}"
            )
        elif not quiet:
            say(f"not adapted: {reason}")
        yield fitted or weights


def _doubt(result: FitResult) -> str:
    """Return why the measured noise cannot be believed, or ""."""
    from amsnet_cli.model import Model

    if isinstance(result.start, Model) and result.curve[0].loss < PERFECT_LOSS:
        return "the photos have less noise than is measured"
    return ""


def _fit(
    weights: str | None,
    photos: Sequence[Path],
    seconds: float,
    place: Path,
    *,
    raw: Literal["mosaic", "developed"],
    device: str,
    seed: int,
    quiet: bool,
) -> FitResult:
    from amsnet_cli.cli.fit_progress import FitDisplay
    from amsnet_cli.device import choose_device
    from amsnet_cli.fitting.fit import fit
    from amsnet_cli.fitting.kind import kind_of_fit
    from amsnet_cli.fitting.options import FitOptions
    from amsnet_cli.fitting.start import load_start
    from amsnet_cli.weights.manifest import SUFFIX

    options = FitOptions(
        preset="adapt", minutes=seconds / 60, raw="developed" if raw == "developed" else "auto",
        seed=seed,
    )  # fmt: skip
    kind = kind_of_fit(photos, options.include, options.raw)
    if kind.left_out:
        raise UsageError(
            "--adapt: RAW files among other photos, which need another model",
            "denoise them apart, or give --raw developed",
        )
    start = load_start(weights, mosaics=kind.mosaics)
    with FitDisplay(lambda: False, quiet=quiet, as_json=False) as display:
        return fit(
            photos, place / f"{Path(start.name).stem}-adapted{SUFFIX}", options,
            start=start, device=choose_device(device), on_event=display.show,
        )  # fmt: skip
