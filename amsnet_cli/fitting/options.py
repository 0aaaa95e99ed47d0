"""Options of a fit: what the user gives, and the presets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from amsnet_cli.core.masks import Fill
from amsnet_cli.core.network_names import NetworkName
from amsnet_cli.fitting.images import CROP_SIZE, MAX_FILE_BYTES, MAX_IMAGES
from amsnet_cli.fitting.kind import RawWay

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
        raw: "mosaic" fits the mosaics of RAW files, before development, and leaves out other
            photos; "developed" develops RAW files first. "auto" is "mosaic" where at least half of
            the photos are RAW, else it leaves RAW files out.
        smooth: fine-tune with a total-variation prior (variant P) instead of masked prediction;
            needs a model to start from.
        minutes: time budget; None for none, or 10 without `steps`, but for "paper".
        steps: optimizer steps. None is 25,000 with "paper" without `minutes`, else no limit. With
            steps alone, the same seed gives the same bytes on the same machine. With minutes, the
            result depends on the machine's speed. With neither, "adapt" ends by itself where the
            validation loss has levelled off, see `budget.Budget`.
        pd_stride: stride of pixel-shuffle downsampling in training; None for 5, as in the paper.
        pd_stride_test: the same at inference; None for at most 2, as in the paper, or 1 if
            "masked" starts from a model.
        mask_ratio: fraction of each sub-image that is masked; None for 0.5, as in the paper.
        patch_size: side of a training patch in pixels, a multiple of `pd_stride`, or of 16 for
            "adapt" and for mosaics; None for about 160, or 96 for "adapt", or 128 for mosaics.
        batch: patches per step, over all processes; None for 4, or 8 for "adapt" and for mosaics,
            or 2 for Restormer with the paper's preset.
        learning_rate: peak; None for 1e-4 with "paper", 3e-4 with "adapt", 3e-3 from scratch
            and 2e-4 from a model.
        grow: keep what the start was fitted to: its noise is learned again beside that of these
            photos, and its cameras stay. Only "adapt" on developed photos can.
        refine: ratio of random replacement refinement at inference (variant E); 0 for none.
        precision: "float32" never lets convolutions run in bfloat16.
        seed: of all random numbers.
    """

    preset: PresetName | None = None
    network: NetworkName = "compact"
    include: str = "*"
    raw: RawWay = "auto"
    smooth: bool = False
    minutes: float | None = None
    steps: int | None = None
    pd_stride: int | None = None
    pd_stride_test: int | None = None
    mask_ratio: float | None = None
    patch_size: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    grow: bool = False
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
        optimizer: see `TrainerConfig`.
        warmup_steps: steps of linear learning-rate warm-up.
        beta2: AdamW's decay of the mean squared gradient.
        grad_clip: maximum norm of the gradient.
        ema_decay: of the moving average of the weights; 0 for the weights themselves.
        fall_from: fraction of the training after which the learning rate falls.
        distilled_share: last part of the minutes, or steps that are added to those given, in which
            what the network says of hidden pixels is distilled into its single pass; 0 for none.
        keep: weights of the lowest validation loss ("best"), or the last; of a fit that is
            interrupted, always the former.
    """

    max_pixels: int = 300_000_000
    max_images: int = MAX_IMAGES
    max_file_bytes: float = MAX_FILE_BYTES
    fill: Fill = "mean"
    mask_channel: bool = True
    quarter_turns: bool = True
    optimizer: Literal["adamw", "muon"] = "adamw"
    warmup_steps: int = 100
    beta2: float = 0.999
    grad_clip: float = 1.0
    ema_decay: float = 0.998
    fall_from: float = 0.0
    distilled_share: float = 0.0
    keep: Literal["best", "last"] = "best"


PRESETS: dict[PresetName, Preset] = {
    "adapt": Preset(
        max_pixels=96 * CROP_SIZE**2, optimizer="muon", warmup_steps=20, beta2=0.99, grad_clip=0.2,
        ema_decay=0.98, fall_from=0.25, keep="last",
    ),
    "masked": Preset(optimizer="muon", distilled_share=0.1),
    "paper": Preset(
        max_images=300_000_000 // CROP_SIZE**2, max_file_bytes=math.inf, fill="zeros",
        mask_channel=False, quarter_turns=False, warmup_steps=1, grad_clip=math.inf, ema_decay=0.0,
        keep="last",
    ),
}  # fmt: skip
