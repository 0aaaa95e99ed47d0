"""Every number of the post-processing, documented, with its default.

Each stage can be switched off, and each number can be set: `DenoiseOptions.postprocess` takes a
`PostprocessConfig`. What a stage is worth is shown by

    python -m benchmarks.postprocess DATA --sets ... --without STAGE ...

and what a change of each number by a fifth does to every set by the same command with `--sweep`.

Levels of noise are standard deviations, in [0, 1] units where nothing else is said: `8 / 255` is 8
steps of an 8-bit image. A range (a, b) is a linear ramp: no effect up to a, full effect from b on.
Blocks are squares of 8 x 8 pixels (`blocks.BLOCK_SIZE`). The residual is what the network removed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from amsnet_cli.photos.jpeg_history import JpegHistoryConfig

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class BlockStatsConfig:
    """Which blocks count, for all stages that compare blocks with one another."""

    max_clipped: float = 0.25
    """Share of a block's pixels at black or white from which it says nothing of the noise."""
    uniform_contrast: float = 1e-6
    """Difference of the brightest and darkest pixel below which a block is uniform. Float32 sums
    of equal pixels differ by less; one step of 16 bits in red is 3e-6."""
    quietest: float = 0.25
    """Quantile of the blocks' residual power that is taken for that of noise alone."""


@dataclass(frozen=True, kw_only=True)
class TextureConfig:
    """How much stronger than noise a residual is texture. `--without restore_texture`."""

    tolerance: float = 2.8
    """Multiple of the noise's power up to which a residual is noise. The noise of one photo varies
    up to that, by vignetting, demosaicking and in-camera noise reduction."""
    detail_tolerance: float = 1.3
    """The same for `DenoiseOptions.detail`, which brings texture back with some of the noise."""
    textured_tolerance: float = 1.8
    """The same where faint noise lies over texture: much of what is just within is texture."""
    texture_excess: Range = (0.03, 0.1)
    """How many more of the blocks are beyond `tolerance` in means of 2 x 2 pixels than pixel by
    pixel: texture is coarser than noise. From none to `textured_tolerance`, share of blocks."""
    faint_noise: Range = (5 / 255, 9 / 255)
    """Noise level from which texture lowers the tolerance less, and no more at all."""
    edge_noise: float = 0.01
    """Residual power that is noise in any case beside structure, as a share of the structure's
    power: cameras reduce noise less at edges, and it is hard to see there."""
    brightness_levels: int = 13
    """Points of the curve of noise power by brightness, evenly spaced in its square root."""
    min_blocks: int = 20
    """Blocks of a brightness from which its noise is measured."""
    min_unclipped: float = 0.15
    """Share of unclipped blocks, of those not uniform, from which anything is taken for noise."""


@dataclass(frozen=True, kw_only=True)
class AnisotropyConfig:
    """Fur and hair: an anisotropic residual is not noise. `--without restore_anisotropic`."""

    coherence: Range = (0.17, 0.23)
    """Mean coherence of the structure tensor of noise, and of fur."""
    chance: tuple[tuple[float, float], ...] = ((0.6, 0.0), (0.75, 0.05), (0.85, 0.12), (0.9, 0.22))
    """Pairs of the noise's lag-1 correlation and the coherence that chance then adds: there are few
    grains of coarse noise in a window."""
    tolerance_factor: float = 0.2
    """Share of the tolerance that is left for fur."""
    window: int = 2
    """Side in blocks of the windows whose coherence is taken."""
    mean_window: int = 5
    """Side in windows over which coherence is averaged."""


@dataclass(frozen=True, kw_only=True)
class GraphicsConfig:
    """Keep graphics: noise leaves no block uniform. `--without keep_graphics`."""

    uniform_share: Range = (0.03, 0.1)
    """Share of uniform blocks, of the unclipped, around a block of a photo, and of graphics."""
    window: int = 25
    """Side in blocks of the surroundings, an odd number."""


@dataclass(frozen=True, kw_only=True)
class ConfidenceConfig:
    """How surely a weak residual is noise and not fine texture. `--without use_confidence`.

    The lossy ranges are for images that were compressed with loss, which makes neighbouring pixels
    share whatever it keeps.
    """

    least: float = 0.25
    """Confidence when all speaks for texture."""
    correlation: Range = (0.05, 0.25)
    """Lag-1 correlation of the residual of texture, and of camera noise."""
    even_correlation: Range = (0.05, 0.12)
    """The same where the noise floor is even."""
    lossy_correlation: Range = (0.35, 0.5)
    """The same of lossy images."""
    strong_noise: Range = (2.5 / 255, 4.0 / 255)
    """Residual level beyond which it is noise, correlated or not."""
    lossy_strong_noise: Range = (2.0 / 255, 3.0 / 255)
    """The same of lossy images."""
    floor: Range = (1.6 / 255, 2.0 / 255)
    """Noise level of the weakest blocks from which an even floor is noise for sure."""
    floor_quantile: float = 0.05
    """Quantile of the blocks' noise level that is the floor."""
    evenness: Range = (1.3, 1.6)
    """Level of the quiet blocks relative to the floor, of an even floor and of an uneven one."""
    rounding: Range = (0.3 / 255, 0.5 / 255)
    """Level that rounding to 8 bits alone makes (it is 1/255/sqrt(12)), and one that it cannot."""
    coarse_step: Range = (14 / 255, 20 / 255)
    """Mean quantisation step from which compression has left no faint texture."""


@dataclass(frozen=True, kw_only=True)
class ResidualNoiseConfig:
    """Smooth residual noise in flat areas. `--without smooth_residual_noise`."""

    luma_sigma: float = 1 / 255
    """Standard deviation of brightness of which half is smoothed away (guided filter's epsilon)."""
    chroma_sigma: float = 2 / 255
    """The same of colour."""
    radius: int = 2
    """Blocks in each direction that the filter's window reaches."""


@dataclass(frozen=True, kw_only=True)
class SharpnessConfig:
    """Limit sharpness to the bandwidth of demosaicked noise. `--without limit_sharpness`."""

    correlation: Range = (0.05, 0.2)
    """Lag-1 correlation of white noise, and of noise that surely was demosaicked: SIDD .20 to .29,
    RENOIR .30 to .36, PolyU .39 to .68."""
    pull: float = 0.5
    """Share of the way to the mean of the 3 x 3 pixels around."""
    clip: float = 0.5
    """Most that a pixel changes, relative to the noise's difference between neighbours."""


@dataclass(frozen=True, kw_only=True)
class BrightnessConfig:
    """Correct the brightness bias of skewed noise. `--without correct_brightness`."""

    intensity_bins: int = 16
    """Bins of the denoised intensity; each has a bias of its own."""
    residual_bins: int = 2041
    """Bins of the residual from -1 to 1, an odd number: four to a step of 8-bit images."""
    min_pixels: int = 200
    """Pixels of an intensity from which its bias is measured; else that of the nearest counts."""
    neighbour_weight: float = 0.5
    """Weight of the two intensity bins beside one."""
    skewed: float = 0.05
    """Distance of median and mean, in standard deviations, from which noise is fully skewed."""
    standard_errors: float = 2.5
    """Standard errors of a mean by which the median must lie above it to count at all: two of a
    median."""
    max_clipped: float = 0.2
    """Share of pixels at black or white from which an intensity says nothing of the tone curve;
    below, its weight falls linearly."""
    clipped_weight: float = 2.0
    """Weight of the least clipped intensity is multiplied by this, and is at most 1."""
    tone_curve: Range = (0.25, 0.5)
    """Skewness relative to that by the sRGB curve: of noise that no curve has bent, and of noise
    that one has."""
    light_share: float = 0.5
    """Of the bias under a tone curve, how much is by the mean in linear light; the rest is by the
    median. In shadows that clip at black the first is too bright, the second too dark."""
    dense_pixels: int = 1 << 17
    """Pixels of an image from which only every third sampled row is measured."""
    sampled_pixels: int = 1 << 21
    """Pixels of an image from which only some are measured, about as many as in this many."""


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig:
    """Stages of the post-processing, and their numbers.

    All but `keep_graphics`, `restore_anisotropic` and `use_confidence`, which refine
    `restore_texture`, work apart from one another.
    """

    restore_texture: bool = True
    """Blend the result back towards the input where the residual is too strong to be noise."""
    restore_anisotropic: bool = True
    """Tolerate less where the residual is anisotropic, as fur and hair are."""
    keep_graphics: bool = True
    """Leave drawings and screenshots as they are."""
    use_confidence: bool = True
    """Blend a weak residual back as far as it may be texture."""
    smooth_residual_noise: bool = True
    """Smooth the faint noise that the network leaves in flat areas."""
    limit_sharpness: bool = True
    """Leave nothing finer than demosaicked noise."""
    correct_brightness: bool = True
    """Correct the bias that a tone curve causes under strong noise."""

    block_stats: BlockStatsConfig = BlockStatsConfig()
    texture: TextureConfig = TextureConfig()
    anisotropy: AnisotropyConfig = AnisotropyConfig()
    graphics: GraphicsConfig = GraphicsConfig()
    confidence: ConfidenceConfig = ConfidenceConfig()
    residual_noise: ResidualNoiseConfig = ResidualNoiseConfig()
    sharpness: SharpnessConfig = SharpnessConfig()
    brightness: BrightnessConfig = BrightnessConfig()
    jpeg_history: JpegHistoryConfig = field(default_factory=JpegHistoryConfig)


def ramp(value: float, ends: Range) -> float:
    """Position of a value between two ends, clipped to [0, 1]."""
    return min(1.0, max(0.0, (value - ends[0]) / (ends[1] - ends[0])))
