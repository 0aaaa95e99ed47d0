"""Every number of the post-processing, documented, with its default.

Each stage can be switched off, and each number can be set: `DenoiseOptions.postprocess` takes a
`PostprocessConfig`. This command prints what a stage is worth; with `--sweep` it prints what a
change of each number by a fifth does to every set:

    python -m benchmarks.postprocess DATA --sets ... --without STAGE ...

Noise levels are standard deviations in [0, 1] units: `8 / 255` is 8 steps of an 8-bit image. A
range (a, b) is a linear ramp: no effect up to a, full effect from b on. Blocks are squares of 8 x 8
pixels (`blocks.BLOCK_SIZE`). The residual is what the network removed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class BlockStatsConfig:
    """Which blocks are used, in all stages that compare blocks with one another."""

    max_clipped: float = 0.25
    """Share of clipped pixels, at black or white, from which a block is left out."""
    quietest: float = 0.25
    """Quantile of the blocks' residual power that is taken for the power of noise alone."""
    white_correlation: float = 0.05
    """Lag-1 correlation up to which a residual is white, as white noise and fine texture are."""


@dataclass(frozen=True, kw_only=True)
class TextureConfig:
    """How much stronger than noise a residual is texture, for `DenoiseOptions.detail`."""

    tolerance: float = 1.3
    """Multiple of the noise's power up to which a residual is noise."""
    edge_noise: float = 0.01
    """Residual power beside structure that always counts as noise, as a share of the structure's
    power. Cameras reduce noise less at edges, and it is hard to see there."""
    brightness_levels: int = 13
    """Points of the curve of noise power by brightness, evenly spaced in its square root."""
    min_blocks: int = 20
    """Fewest blocks from which the noise of a brightness is measured."""


@dataclass(frozen=True, kw_only=True)
class GraphicsConfig:
    """Keep graphics: noise leaves no block uniform. `--without keep_graphics`."""

    uniform_share: float = 0.1
    """Share of uniform blocks among the unclipped ones around a block from which it is graphics; up
    to half of it, a photo."""
    window: int = 25
    """Side in blocks of the window around a block, an odd number."""
    min_unclipped: float = 0.15
    """Ratio of unclipped blocks to blocks that are not uniform up to which all is graphics: black
    and white print."""


@dataclass(frozen=True, kw_only=True)
class ResidualNoiseConfig:
    """Smooth residual noise in flat areas. `--without smooth_residual_noise`."""

    luma_sigma: float = 1 / 255
    """Standard deviation of luma of which half is smoothed away (guided filter's epsilon)."""
    chroma_sigma: float = 2 / 255
    """The same of chroma."""
    share: float = 0.05
    """Share of the noise that `luma_sigma` is at most, and half of what `chroma_sigma` is, after a
    network that is told the noise. So nothing is smoothed where there was hardly any."""
    radius: int = 2
    """Radius of the filter's window, in blocks."""


@dataclass(frozen=True, kw_only=True)
class SharpnessConfig:
    """Limit sharpness to the bandwidth of demosaicked noise. `--without limit_sharpness`."""

    correlation: float = 0.2
    """Lag-1 correlation of clearly demosaicked noise: SIDD .20 to .29, RENOIR .30 to .36, PolyU .39
    to .68."""
    pull: float = 0.5
    """Share of the way to the mean of the 3 x 3 pixels around that a pixel moves."""
    clip: float = 0.5
    """Largest change of a pixel, relative to the noise's difference between neighbours."""


@dataclass(frozen=True, kw_only=True)
class BrightnessConfig:
    """Correct the brightness bias of skewed noise. `--without correct_brightness`."""

    intensity_bins: int = 16
    """Bins of the denoised intensity; each has a bias of its own."""
    residual_bins: int = 2041
    """Bins of the residual from -1 to 1, an odd number: four to a step of 8-bit images."""
    min_pixels: int = 200
    """Fewest pixels from which the bias of an intensity is measured; with fewer, the bias of the
    nearest measured intensity is used."""
    neighbour_weight: float = 0.5
    """Weight of each of the two neighbouring intensity bins."""
    skewed: float = 0.05
    """Median minus mean, in standard deviations, from which noise counts as fully skewed."""
    standard_errors: float = 2.5
    """Median minus mean, in standard errors of the mean, from which noise counts as skewed at all.
    2.5 are two standard errors of a median."""
    max_clipped: float = 0.2
    """Share of clipped pixels, at black or white, from which an intensity has no weight in
    detecting the tone curve. With a smaller share, the weight rises linearly."""
    clipped_weight: float = 2.0
    """The confidence in a tone curve is multiplied by this times the largest such weight, at most
    by 1."""
    white_noise: float = 0.2
    """`PhotoNoise.shared` up to which noise is white: then only a tone curve can bias it."""
    tone_curve: float = 0.5
    """Skewness relative to that of noise under the sRGB curve from which there is a tone curve; up
    to half of it, there is none."""
    light_share: float = 0.5
    """Share of the mean in linear light in the bias under a tone curve; the rest is the median. In
    shadows that clip at black the mean is too bright and the median too dark."""
    dense_pixels: int = 1 << 17
    """Pixels of an image from which rows are sampled three times as sparsely as columns."""
    sampled_pixels: int = 1 << 21
    """Pixels of an image from which columns are skipped as well, more in larger images."""


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig:
    """Stages of the post-processing, and their numbers.

    They are independent.
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
    texture: TextureConfig = TextureConfig()
    graphics: GraphicsConfig = GraphicsConfig()
    residual_noise: ResidualNoiseConfig = ResidualNoiseConfig()
    sharpness: SharpnessConfig = SharpnessConfig()
    brightness: BrightnessConfig = BrightnessConfig()

    @classmethod
    def none(cls) -> PostprocessConfig:
        """No stage at all."""
        stages = [f.name for f in fields(cls) if isinstance(f.default, bool)]
        return replace(cls(), **dict.fromkeys(stages, False))  # type: ignore[arg-type]

    def for_noise(self, sigma: float) -> PostprocessConfig:
        """Smooth only a small share of the noise.

        Args:
            sigma: standard deviation of the noise, in [0, 1] units.
        """
        smoothing, most = self.residual_noise, self.residual_noise.share * sigma
        return replace(
            self,
            residual_noise=replace(
                smoothing, luma_sigma=min(smoothing.luma_sigma, most),
                chroma_sigma=min(smoothing.chroma_sigma, 2 * most),
            ),
        )  # fmt: skip


def ramp(value: float, ends: Range) -> float:
    """Position of a value between two ends, clipped to [0, 1]."""
    return min(1.0, max(0.0, (value - ends[0]) / (ends[1] - ends[0])))


def half_ramp(value: float, end: float) -> float:
    """The same from half of an end on."""
    return ramp(value, (end / 2, end))
