"""Settings of a fit: what its options resolve to, with nothing left open."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from amsnet_cli.core.network_names import NetworkName
from amsnet_cli.errors import UsageError
from amsnet_cli.fitting.options import PRESETS, FitOptions, PresetName
from amsnet_cli.model import Model
from amsnet_cli.mosaic_model import MosaicModel

MosaicTerm = Literal["recorrupt", "renoise", "mask"]
"""A term of the training loss on mosaics, see `mosaic_objective.MosaicObjective`."""


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Options of a fit, resolved; those of `FitOptions`, with nothing left open.

    Attributes:
        from_scratch: whether the network starts fresh.
        steps: optimizer steps, infinite for no limit.
        minutes: time budget, infinite for no limit.
        until_level: whether to end where the validation loss has levelled off, within the limits.
    """

    preset: PresetName
    network: NetworkName
    from_scratch: bool
    include: str
    steps: float
    minutes: float
    patch_size: int
    batch: int
    learning_rate: float
    precision: Literal["auto", "float32"]
    seed: int
    until_level: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return names and values; infinite limits are left out."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v != math.inf}


@dataclass(frozen=True, kw_only=True)
class AdaptSettings(FitSettings):
    """Settings of preset "adapt".

    Attributes:
        grow: whether to keep what the start was fitted to.
    """

    grow: bool = False


@dataclass(frozen=True, kw_only=True)
class MaskedSettings(FitSettings):
    """Settings of presets "masked" and "paper".

    Attributes:
        n_masks: how many complementary masks of about `mask_ratio` each cover all pixels.
        mask_repeats: independent sets of masks averaged at inference.
        distilled_share: see `Preset`.
    """

    smooth: bool
    pd_stride: int
    pd_stride_test: int
    mask_ratio: float
    n_masks: int
    mask_repeats: int
    refine: float
    distilled_share: float


@dataclass(frozen=True, kw_only=True)
class MosaicSettings(FitSettings):
    """Settings of presets "adapt" and "masked" on mosaics of RAW files.

    Attributes:
        terms: of the training loss, see `mosaic_objective.MosaicObjective`.
        alpha: of recorruption.
        mask_ratio: fraction of the photosites that the term "mask" hides.
    """

    terms: tuple[MosaicTerm, ...]
    alpha: float
    mask_ratio: float


def resolve_settings(
    options: FitOptions,
    start: Model | MosaicModel | None,
    *,
    mosaics: bool = False,
    processes: int = 1,
) -> AdaptSettings | MaskedSettings | MosaicSettings:
    """Return the settings of a fit.

    Args:
        options: as given.
        start: the model to start from; None for a fresh network.
        mosaics: whether the fit is to mosaics of RAW files.
        processes: how many share each batch.

    Raises:
        UsageError: a value out of range, options that do not fit together, or a model for the
            other kind of photo.
    """
    settings: AdaptSettings | MaskedSettings | MosaicSettings
    if mosaics:
        if options.grow:
            raise UsageError(
                "only models for developed photos grow", "give --weights, or --raw developed"
            )
        if isinstance(start, Model):
            raise UsageError(
                f"{start.name} is for developed photos, and RAW files are fitted undeveloped",
                "leave out --weights, or give --raw developed",
            )
        settings = _resolve_mosaics(options, fresh=start is None)
    else:
        if isinstance(start, MosaicModel):
            raise UsageError(
                f"{start.name} is for mosaics of RAW files, and these photos are developed",
                "leave out --weights, or give --raw mosaic",
            )
        if options.grow and not (start and start.known):
            raise UsageError(
                f"{start.name if start else 'a fresh network'} does not say what it was fitted to",
                "give it with --weights instead, or fit it again",
            )
        settings = _resolve_developed(options, start)
    if settings.batch % processes:
        raise UsageError(
            f"{processes} processes cannot share a batch of {settings.batch}",
            f"give --batch {processes}, or a multiple of it",
        )
    return settings


def _resolve_developed(options: FitOptions, start: Model | None) -> AdaptSettings | MaskedSettings:
    single_pass = start is not None and start.config.inference.passes == "single"
    preset = options.preset or ("adapt" if single_pass and not options.smooth else "masked")
    if options.grow and preset != "adapt":
        raise UsageError(f"preset {preset} does not keep what a model knows", "leave it out")
    if preset != "adapt":
        return _resolve_masked(options, preset, start)
    if not single_pass:
        raise UsageError("only a single-pass model can be adapted", "give --preset masked")
    return _resolve_adapt(options)


def _resolve_mosaics(options: FitOptions, *, fresh: bool) -> MosaicSettings:
    preset = options.preset or ("masked" if fresh else "adapt")
    if preset == "paper" or options.network != "compact":
        raise UsageError("the paper's networks see developed photos", "give --raw developed")
    if preset == "adapt" and fresh:
        raise UsageError("only weights can be adapted", "give --preset masked, or --weights")
    for_developed = {
        "--pd-stride": options.pd_stride, "--pd-stride-test": options.pd_stride_test,
        "--smooth": options.smooth or None, "--refine": options.refine or None,
        "--mask-ratio": options.mask_ratio if preset == "adapt" else None,
    }  # fmt: skip
    given = [name for name, value in for_developed.items() if value is not None]
    if given:
        raise UsageError(
            f"{given[0]}: preset {preset} has no use for it on mosaics of RAW files",
            "leave it out, or give --raw developed",
        )
    patch_size = 128 if options.patch_size is None else options.patch_size
    if patch_size < 1 or patch_size % 16:
        raise UsageError("the patch size on mosaics must be a multiple of 16")
    mask_ratio = 0.5 if options.mask_ratio is None else options.mask_ratio
    if not 0 < mask_ratio < 1:
        raise UsageError("the mask ratio must lie between 0 and 1")
    unlimited = options.minutes is None and options.steps is None
    masked = preset == "masked"
    return MosaicSettings(
        preset=preset,
        network=options.network,
        from_scratch=fresh,
        include=options.include,
        steps=options.steps or math.inf,
        minutes=options.minutes or (10.0 if unlimited else math.inf),
        until_level=unlimited and not masked,
        patch_size=patch_size,
        batch=_at_least_1("batch", options.batch, 8),
        learning_rate=options.learning_rate or (3e-3 if fresh else 4e-4),
        precision=options.precision,
        seed=options.seed,
        terms=("mask", "recorrupt") if masked else ("renoise",),
        alpha=0.5,
        mask_ratio=mask_ratio,
    )


def _resolve_adapt(options: FitOptions) -> AdaptSettings:
    for_masks = {
        "--pd-stride": options.pd_stride, "--pd-stride-test": options.pd_stride_test,
        "--mask-ratio": options.mask_ratio, "--smooth": options.smooth or None,
        "--refine": options.refine or None,
    }  # fmt: skip
    given = [name for name, value in for_masks.items() if value is not None]
    if given:
        raise UsageError(
            f"{given[0]}: preset adapt uses no masks", "leave it out, or give --preset masked"
        )
    patch_size = 96 if options.patch_size is None else options.patch_size
    if patch_size < 1 or patch_size % 16:
        raise UsageError("the patch size of preset adapt must be a multiple of 16")
    unlimited = options.minutes is None and options.steps is None
    return AdaptSettings(
        preset="adapt",
        network=options.network,
        from_scratch=False,
        include=options.include,
        steps=options.steps or math.inf,
        minutes=options.minutes or (10.0 if unlimited else math.inf),
        until_level=unlimited,
        patch_size=patch_size,
        # Small batches: more steps gain more than larger batches in the same time.
        batch=_at_least_1("batch", options.batch, 8),
        learning_rate=options.learning_rate or 3e-4,
        precision=options.precision,
        seed=options.seed,
        grow=options.grow,
    )


def _resolve_masked(options: FitOptions, preset: PresetName, start: Model | None) -> MaskedSettings:
    paper = preset == "paper"
    network = start.config.network if start else options.network
    if options.network != "compact" and (start or not paper):
        raise UsageError(
            f"network {options.network} is trained from scratch, with the paper's preset only",
            "give --preset paper, and no --weights",
        )
    if options.smooth and not start:
        raise UsageError(
            "--smooth fine-tunes a fitted model", "fit without it first, then give --weights"
        )
    pd_stride = _at_least_1("pd-stride", options.pd_stride, 5)
    mask_ratio = 0.5 if options.mask_ratio is None else options.mask_ratio
    if not 0 < mask_ratio < 1:
        raise UsageError("the mask ratio must lie between 0 and 1")
    patch_size = options.patch_size or round(160 / pd_stride) * pd_stride
    if patch_size < pd_stride or patch_size % pd_stride:
        raise UsageError(f"the patch size must be a multiple of the pd-stride {pd_stride}")
    unlimited = options.minutes is None and options.steps is None
    return MaskedSettings(
        preset=preset,
        network=options.network,
        from_scratch=start is None,
        include=options.include,
        steps=options.steps or (25_000 if unlimited and paper else math.inf),
        minutes=options.minutes or (10.0 if unlimited and not paper else math.inf),
        patch_size=patch_size,
        batch=_at_least_1("batch", options.batch, 2 if paper and network == "restormer" else 4),
        learning_rate=options.learning_rate or (1e-4 if paper else 2e-4 if start else 3e-3),
        precision=options.precision,
        seed=options.seed,
        smooth=options.smooth,
        pd_stride=pd_stride,
        # A smaller stride than in training keeps more detail, as in the paper. A model that has
        # learned correlated noise before needs no stride at all.
        pd_stride_test=_at_least_1(
            "pd-stride-test", options.pd_stride_test,
            min(pd_stride, 2) if paper or start is None else 1,
        ),
        mask_ratio=mask_ratio,
        n_masks=max(2, round(1 / mask_ratio)),
        mask_repeats=1 if paper else 4,
        refine=options.refine,
        # Refinement and the total-variation prior belong to the multi-mask pass.
        distilled_share=(
            0.0 if options.refine or options.smooth else PRESETS[preset].distilled_share
        ),
    )  # fmt: skip


def _at_least_1(name: str, given: int | None, default: int) -> int:
    value = default if given is None else given
    if value < 1:
        raise UsageError(f"--{name} must be at least 1")
    return value
