"""Options of a fit: what the user gives, the presets, and the settings that they resolve to."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from amsnet_cli.core.masks import Fill
from amsnet_cli.core.network_names import NetworkName
from amsnet_cli.errors import UsageError
from amsnet_cli.fitting.images import CROP_SIZE, MAX_FILE_BYTES, MAX_IMAGES
from amsnet_cli.model import Model

PresetName = Literal["adapt", "masked", "paper"]


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Options of `fit`, as the user gives them; None leaves a value to the preset.

    Attributes:
        preset: "adapt" fine-tunes a single-pass model on the noise of these photos. "masked"
            trains by masked prediction, for several masks at inference. "paper" does so with the
            paper's settings: zeros in masked pixels, no mask channel, AdamW with a cosine schedule
            from 1e-4, the last weights kept. None is "adapt" from a single-pass model, else
            "masked".
        network: the architecture of a fresh network; those of the paper need its preset.
        include: glob pattern of the names of the training photos, such as "*NOISY*".
        smooth: fine-tune with a total-variation prior (variant P) instead of masked prediction;
            needs a model to start from.
        minutes: time budget; None for none, or 10 for "masked" without `steps`.
        steps: optimizer steps. None is 1000 with "adapt", 25,000 with "paper" without `minutes`,
            else no limit. With steps alone, the same seed gives the same bytes on the same
            machine. With minutes, the result depends on the machine's speed.
        pd_stride: stride of pixel-shuffle downsampling in training; None for 5, as in the paper.
        pd_stride_test: the same at inference; None for at most 2, as in the paper, or 1 if
            "masked" starts from a model.
        mask_ratio: fraction of each sub-image that is masked; None for 0.5, as in the paper.
        patch_size: side of a training patch in pixels, a multiple of `pd_stride`, or of 16 for
            "adapt"; None for about 160, or 96.
        batch: patches per step, over all processes; None for 4, or 8 for "adapt", or 2 for
            Restormer with the paper's preset.
        learning_rate: peak; None for 1e-4 with "paper", 4e-4 with "adapt", else 1e-3 from scratch
            and 2e-4 from a model.
        refine: ratio of random replacement refinement at inference (variant E); 0 for none.
        precision: "float32" never lets convolutions run in bfloat16.
        seed: of all random numbers.
    """

    preset: PresetName | None = None
    network: NetworkName = "compact"
    include: str = "*"
    smooth: bool = False
    minutes: float | None = None
    steps: int | None = None
    pd_stride: int | None = None
    pd_stride_test: int | None = None
    mask_ratio: float | None = None
    patch_size: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    refine: float = 0.0
    precision: Literal["auto", "float32"] = "auto"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Hyper-parameters fixed by the preset; not exposed on the command line.

    Attributes:
        max_pixels: about how many pixels of the training photos are kept in memory.
        max_images: training photos to read at most.
        max_file_bytes: largest total size of their files.
        fill: what a fresh network sees in masked pixels.
        mask_channel: whether a fresh network gets the mask as an input channel.
        quarter_turns: whether augmentation rotates by 90 degrees, besides flips.
        warmup_steps: steps of linear learning-rate warm-up.
        beta2: AdamW's decay of the mean squared gradient.
        grad_clip: maximum norm of the gradient.
        ema_decay: of the moving average of the weights; 0 for the weights themselves.
        validations: how often the validation loss is measured, evenly over the budget.
        keep: weights of the lowest validation loss ("best"), or the last.
    """

    max_pixels: int = 300_000_000
    max_images: int = MAX_IMAGES
    max_file_bytes: float = MAX_FILE_BYTES
    fill: Fill = "mean"
    mask_channel: bool = True
    quarter_turns: bool = True
    warmup_steps: int = 100
    beta2: float = 0.999
    grad_clip: float = 1.0
    ema_decay: float = 0.998
    validations: int = 20
    keep: Literal["best", "last"] = "best"


PRESETS: dict[PresetName, Preset] = {
    "adapt": Preset(
        max_pixels=96 * CROP_SIZE**2, warmup_steps=20, beta2=0.99, grad_clip=0.2, ema_decay=0.98,
        validations=10,
    ),
    "masked": Preset(),
    "paper": Preset(
        max_images=300_000_000 // CROP_SIZE**2, max_file_bytes=math.inf, fill="zeros",
        mask_channel=False, quarter_turns=False, warmup_steps=1, grad_clip=math.inf, ema_decay=0.0,
        keep="last",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Options of a fit, resolved; those of `FitOptions`, with nothing left open.

    Attributes:
        from_scratch: whether the network starts fresh.
        steps: optimizer steps, infinite for no limit.
        minutes: time budget, infinite for no limit.
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

    def progress(self, steps: int, seconds: float) -> float:
        """Fraction of the budget used after so many steps and seconds, in [0, 1]."""
        return min(1.0, max(steps / self.steps, seconds / (60 * self.minutes)))

    def to_dict(self) -> dict[str, Any]:
        """Return names and values; infinite limits are left out."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v != math.inf}


@dataclass(frozen=True, kw_only=True)
class AdaptSettings(FitSettings):
    """Settings of preset "adapt"."""


@dataclass(frozen=True, kw_only=True)
class MaskedSettings(FitSettings):
    """Settings of presets "masked" and "paper".

    Attributes:
        n_masks: how many complementary masks of about `mask_ratio` each cover all pixels.
        mask_repeats: independent sets of masks averaged at inference.
    """

    smooth: bool
    pd_stride: int
    pd_stride_test: int
    mask_ratio: float
    n_masks: int
    mask_repeats: int
    refine: float


def resolve_settings(
    options: FitOptions, start: Model | None, *, processes: int = 1
) -> AdaptSettings | MaskedSettings:
    """Return the settings of a fit.

    Args:
        options: as given.
        start: the model to start from; None for a fresh network.
        processes: how many share each batch.

    Raises:
        UsageError: a value out of range, or options that do not fit together.
    """
    single_pass = start is not None and start.config.inference.passes == "single"
    preset = options.preset or ("adapt" if single_pass and not options.smooth else "masked")
    if preset == "adapt":
        if not single_pass:
            raise UsageError("only a single-pass model can be adapted", "give --preset masked")
        settings: AdaptSettings | MaskedSettings = _resolve_adapt(options)
    else:
        settings = _resolve_masked(options, preset, start)
    if settings.batch % processes:
        raise UsageError(
            f"{processes} processes cannot share a batch of {settings.batch}",
            f"give --batch {processes}, or a multiple of it",
        )
    return settings


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
    return AdaptSettings(
        preset="adapt",
        network=options.network,
        from_scratch=False,
        include=options.include,
        steps=options.steps or 1000,
        minutes=options.minutes or math.inf,
        patch_size=patch_size,
        # Small batches: more steps gain more than larger batches in the same time.
        batch=_at_least_1("batch", options.batch, 8),
        learning_rate=options.learning_rate or 4e-4,
        precision=options.precision,
        seed=options.seed,
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
        learning_rate=options.learning_rate or (1e-4 if paper else 2e-4 if start else 1e-3),
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
    )  # fmt: skip


def _at_least_1(name: str, given: int | None, default: int) -> int:
    value = default if given is None else given
    if value < 1:
        raise UsageError(f"--{name} must be at least 1")
    return value
