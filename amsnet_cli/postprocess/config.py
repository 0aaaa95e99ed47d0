"""Every number of the post-processing, documented, with its default.

Each stage can be switched off, and each number can be set: `DenoiseOptions.postprocess` takes a
`PostprocessConfig`. This command prints what a stage is worth; with `--sweep` it prints what a
change of each number by a fifth does to every set:

    python -m benchmarks.postprocess DATA --sets ... --without STAGE ...

Blocks are squares of 8 x 8 pixels (`blocks.BLOCK_SIZE`). The residual is what the network removed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, kw_only=True)
class BlockStatsConfig:
    """Which blocks and pixels are used, in all stages that compare them with one another."""

    max_clipped: float = 0.25
    """Share of pixels clipped at black or white from which a block or intensity is left out."""
    quietest: float = 0.25
    """Quantile of the blocks' residual power that is taken for the power of noise alone."""


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig:
    """Stages of the post-processing, and their numbers.

    The stages are independent.
    """

    keep_graphics: bool = True
    """Leave drawings and screenshots as they are."""
    smooth_residual_noise: bool = True
    """Smooth the faint noise that the network leaves in flat areas."""
    limit_sharpness: bool = True
    """Leave nothing finer than demosaicked noise."""
    correct_brightness: bool = True
    """Correct the bias that a tone curve causes under strong noise."""

    block_stats: BlockStatsConfig = BlockStatsConfig()

    uniform_share: float = 0.1
    """Keep graphics: share of uniform blocks among the unclipped ones around a block from which it
    is graphics; up to half of it, a photo."""
    graphics_window: int = 25
    """Keep graphics: side in blocks of the window around a block, an odd number."""
    min_unclipped: float = 0.15
    """Keep graphics: ratio of unclipped blocks to blocks that are not uniform up to which all is
    graphics: black and white print."""
    smoothed_share: float = 0.1
    """Smooth residual noise: share of the noise whose standard deviation is that of what is half
    smoothed away (guided filter's epsilon). So nothing is smoothed where there was hardly any."""
    smoothing_radius: int = 2
    """Smooth residual noise: radius of the filter's window, in blocks."""
    tone_curve: float = 0.4
    """Correct brightness: skewness relative to that of noise under the sRGB curve from which there
    is a tone curve; up to half of it, there is none."""
    intensity_bins: int = 16
    """Correct brightness: bins of the denoised intensity; each has a bias of its own."""
    min_pixels: int = 200
    """Correct brightness: fewest pixels from which the bias of an intensity is measured; with
    fewer, the bias of the nearest measured intensity is used."""
    edge_noise: float = 0.01
    """`DenoiseOptions.detail`: residual power beside structure that always counts as noise, as a
    share of the structure's power. Cameras reduce noise less at edges, and it is hard to see
    there."""
    certainty: float = 3.0
    """`DenoiseOptions.detail`: standard errors of white noise's power by which that of a residual
    must exceed the noise to be texture."""

    @classmethod
    def none(cls) -> PostprocessConfig:
        """No stage at all."""
        stages = [f.name for f in fields(cls) if isinstance(f.default, bool)]
        return replace(cls(), **dict.fromkeys(stages, False))  # type: ignore[arg-type]
