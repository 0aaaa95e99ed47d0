"""Simulate camera noise: turn clean photos into pairs of a noisy photo and its target.

Each patch is converted back to sensor values as seen through a lens, gets shot and read noise, and
is developed again: Bayer mosaic, demosaicking, white balance, colour matrix, tone curve, noise
reduction, resampling, sharpening, JPEG. Some patches get white noise or film grain instead. The
target is the noise-free patch, developed in the same way but without noise reduction and JPEG
blocks, with its brightness corrected to the noisy one's. All parameters are drawn anew for each
patch, from ranges wide enough for many cameras, phones and converters.

Sources for the ranges: shot and read noise after Brooks et al., "Unprocessing Images for
Learned Raw Denoising" (CVPR 2019), widened at both ends.
"""

from __future__ import annotations

import io
import math
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

MARGIN = 16
"""Pixels that filters spoil at each border; patches are drawn that much larger."""

_SLOPE_STEP = 0.02
_BINS = 16
_MIN_PIXELS = 64
"""Pixels of an intensity bin from which on its median is used."""
_UNPROCESSED = 0.3
"""Fraction of photos without noise reduction, resampling, sharpening and JPEG, as RAW files are
developed here and by the neutral settings of most converters."""
_LENS_SIGMA = (0.3, 1.6)
"""Range of the point spread in pixels: lens, low-pass filter and pixel width together."""
_REC_601 = (0.299, 0.587, 0.114)
"""Luma weights of JPEG."""


def simulate(clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Simulate random cameras on clean patches.

    Args:
        clean: (B, 3, H + 2 * MARGIN, W + 2 * MARGIN) float32 sRGB in [0, 1], even sides.
        generator: CPU generator; the same state gives the same pairs, on the same device.

    Returns:
        noisy and target, each (B, 3, H, W) float32 in [0, 1] on the device of `clean`; noisy is
        rounded to 8 bits, target is not.
    """
    draw = _Rand(generator, clean.shape[0], clean.device)
    clean = _through_lens(clean, draw)
    added, processed = draw.chance(0.2), ~draw.chance(_UNPROCESSED)
    noisy, target = _photograph(clean, processed, draw)
    sigma = draw.log_uniform(0.5 / 255, 60 / 255)
    noise = torch.where(draw.chance(0.6), draw.normal_like(clean), _grain(clean, draw))
    noisy = torch.where(added, clean + sigma * noise, noisy)
    target = torch.where(added, clean, target)

    noisy, target = _resample(noisy, target, processed & draw.chance(0.3), draw)
    amount = draw.uniform(0.2, 1.2) * (processed & draw.chance(0.35))
    noisy, target = _sharpen(noisy, amount), _sharpen(target, amount)
    grey = draw.chance(0.06)
    noisy, target = (torch.where(grey, x.mean(1, keepdim=True), x) for x in (noisy, target))
    noisy, target = (x[..., MARGIN:-MARGIN, MARGIN:-MARGIN].clamp(0, 1) for x in (noisy, target))
    target = _match_brightness(noisy, target)
    noisy = torch.where(draw.chance(0.05), target, noisy)  # clean photos must stay as they are
    return _quantise(noisy, target, (processed & draw.chance(0.9)).flatten(), draw)


def with_white_noise(clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Add white noise, uniform or growing with the light.

    Photos have it after downscaling, from sensors without a mosaic, and in simulations.

    Args:
        clean: as for `simulate`.
        generator: as for `simulate`.

    Returns:
        As `simulate`; the target is the clean patch itself.
    """
    draw = _Rand(generator, clean.shape[0], clean.device)
    clean = torch.where(draw.chance(0.3), _blur(clean, draw.uniform(0.3, 1.0)), clean)
    grey = draw.chance(0.15)
    clean = torch.where(grey, clean.mean(1, keepdim=True), clean)
    crosstalk = draw.uniform(-0.4, 0.4, 3, 3) * draw.chance(0.3)[..., 0]  # (B, 3, 3)
    mixing = torch.eye(3, device=draw.device) + crosstalk
    noise = torch.einsum("bij,bjhw->bihw", mixing, draw.normal_like(clean))
    noise = torch.where(grey, noise[:, :1], noise)
    light = (clean / clean.mean((1, 2, 3), keepdim=True).clamp_min(1e-3)).sqrt()
    with_light = draw.uniform(0, 1) * draw.chance(0.5)
    sigma = draw.log_uniform(0.5 / 255, 60 / 255) * (1 + with_light * (light - 1))
    noisy = torch.where(draw.chance(0.03), clean, clean + sigma * noise)
    amount = draw.uniform(0.2, 1.0) * draw.chance(0.2)
    noisy, clean = (
        _sharpen(x, amount)[..., MARGIN:-MARGIN, MARGIN:-MARGIN].clamp(0, 1) for x in (noisy, clean)
    )
    return (noisy * 255).round() / 255, clean


def _match_brightness(noisy: Tensor, target: Tensor) -> Tensor:
    """Shift each intensity of `target` to the centre of the noisy pixels there, per channel.

    Clipping at black raises the mean of the noise and lowers its median; a concave tone curve
    lowers the mean and keeps the median. By how much depends on the camera and can only be guessed
    from an image; networks that guess darken the shadows of real photos. So the target is what is
    observable: the larger of mean and median. (SIDD's phones: 3.0/255 rms from the clean brightness
    with the mean, 1.1 with the median but far too dark in the shadows, where the mean is right.)
    """
    batch, channels = target.shape[:2]
    clean, residual = target.flatten(2), (noisy - target).flatten(2)  # (B, 3, H*W)
    position = clean * _BINS
    bin_index = position.long().clamp_max(_BINS - 1)
    counts = clean.new_zeros(batch, channels, _BINS)
    counts.scatter_add_(2, bin_index, torch.ones_like(clean))
    sums = torch.zeros_like(counts).scatter_add_(2, bin_index, residual)
    mean = sums / counts.clamp_min(1)
    # Sorted by bin and then by residual, the median is in the middle of each bin's run.
    order = (bin_index + 0.25 * residual.clamp(-1, 1) + 0.5).argsort(2)
    middle = (counts.cumsum(2) - 0.5 * counts).long().clamp_max(clean.shape[2] - 1)
    median = residual.gather(2, order.gather(2, middle))
    shift = torch.where(counts >= _MIN_PIXELS, torch.maximum(mean, median), mean)
    # Interpolated between the centres of bins; empty bins get no weight.
    lower = (position - 0.5).floor().clamp(0, _BINS - 2).long()
    fraction = (position - 0.5 - lower).clamp(0, 1)
    occupied = (counts > 0).float()
    low, high = shift.gather(2, lower), shift.gather(2, lower + 1)
    low_weight = (1 - fraction) * occupied.gather(2, lower)
    high_weight = fraction * occupied.gather(2, lower + 1)
    shift = (low * low_weight + high * high_weight) / (low_weight + high_weight).clamp_min(1e-6)
    return (target + shift.reshape(target.shape)).clamp(0, 1)


class _Rand:
    """Random parameters, one for each patch, shaped (B, 1, 1, 1) to broadcast."""

    def __init__(self, generator: torch.Generator, batch: int, device: torch.device) -> None:
        self.generator, self.batch, self.device = generator, batch, device
        self.grain = generator
        if device.type != "cpu":
            seed = int(torch.randint(2**62, (), generator=generator))
            self.grain = torch.Generator(device).manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        size = (self.batch, *(shape or (1, 1, 1)))
        drawn = low + (high - low) * torch.rand(size, generator=self.generator)
        return drawn.to(self.device)

    def log_uniform(self, low: float, high: float) -> Tensor:
        return self.uniform(math.log(low), math.log(high)).exp()

    def chance(self, probability: float) -> Tensor:
        return self.uniform(0, 1) < probability

    def normal_like(self, x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=self.grain, device=self.device)


def _grain(clean: Tensor, draw: _Rand) -> Tensor:
    """Film grain of standard deviation about 1: soft, mostly strongest in mid-tones."""
    colour, grey = draw.normal_like(clean), draw.normal_like(clean[:, :1])
    saturation = draw.uniform(0, 1) * draw.chance(0.5)
    grain = _blur(
        (1 - saturation).sqrt() * grey + saturation.sqrt() * colour, draw.uniform(0.2, 1.5)
    )
    grain = grain / grain.std((1, 2, 3), keepdim=True)
    mid_tones = 0.4 + 1.2 * (clean * (1 - clean)).clamp_min(0).sqrt()
    return torch.where(draw.chance(0.7), grain * mid_tones, grain)


def _through_lens(clean: Tensor, draw: _Rand) -> Tensor:
    """Blur most patches: the training photos were downscaled, real ones are at full resolution."""
    return torch.where(draw.chance(0.7), _blur(clean, draw.uniform(*_LENS_SIGMA)), clean)


def _photograph(clean: Tensor, processed: Tensor, draw: _Rand) -> tuple[Tensor, Tensor]:
    """Expose, add sensor noise and develop; return the noisy and the noise-free result.

    Where `processed`, (B, 1, 1, 1) bool, in-camera noise reduction follows.
    """
    gamma = draw.uniform(1.8, 2.6)
    exposure = 2 ** draw.uniform(-2.0, 0.4)
    to_srgb = _colour_matrix(draw)
    red, blue = draw.uniform(1.1, 2.6), draw.uniform(1.1, 2.6)
    gains = torch.cat([red, torch.ones_like(red), blue], 1)
    linear = (clean.clamp(0, 1) ** gamma * exposure).clamp(0, 1)
    camera = torch.einsum("bij,bjhw->bihw", torch.linalg.inv(to_srgb), linear)
    raw = (camera / gains).clamp(0, 1)

    shot = draw.log_uniform(3e-5, 8e-2)
    read = (2.18 * shot.log() + 1.2 + 0.6 * draw.normal_like(shot)).exp()
    noise = (shot * raw + read).sqrt() * draw.normal_like(raw)

    mosaicked, kind = draw.chance(0.88), draw.uniform(0, 1)
    developed = []
    for sensor in ((raw + noise).clamp_max(1.0), raw):
        rgb = torch.where(mosaicked, _demosaic(_mosaic(sensor), kind), sensor)
        developed.append(torch.einsum("bij,bjhw->bihw", to_srgb, rgb * gains))
    noisy, target = developed
    reduced = target + _reduce_noise(noisy - target, draw)
    noisy = torch.where(processed, reduced, noisy)
    contrast = draw.uniform(0.0, 0.8)
    developed_target = _tone(target, gamma, contrast)
    # A tone curve skews the noise, and networks come to expect that of all noise; RENOIR's is not
    # skewed. So for some cameras the curve is linear as far as the noise reaches.
    slope = (_tone(target + _SLOPE_STEP, gamma, contrast) - developed_target) / _SLOPE_STEP
    unskewed = developed_target + slope * (noisy - target)
    developed_noisy = torch.where(draw.chance(0.4), unskewed, _tone(noisy, gamma, contrast))
    chosen = processed & draw.chance(0.75)
    return _edge_preserving_reduction(developed_noisy, developed_target, chosen, draw)


def _tone(linear: Tensor, gamma: Tensor, contrast: Tensor) -> Tensor:
    """Apply gamma and part of an S-curve."""
    encoded = linear.clamp(0, 1) ** (1 / gamma)
    return torch.lerp(encoded, encoded * encoded * (3 - 2 * encoded), contrast)


def _colour_matrix(draw: _Rand) -> Tensor:
    """Random matrices from camera to sRGB, (B, 3, 3); rows sum to 1, as white stays white."""
    off = draw.uniform(-0.55, 0.05, 3, 3) * draw.uniform(0, 1, 1, 1)
    off = off * (1 - torch.eye(3, device=draw.device))
    return off + torch.diag_embed(1 - off.sum(2))


def _mosaic(rgb: Tensor) -> Tensor:
    """Keep one colour per pixel, RGGB; (B, 3, H, W) -> (B, 1, H, W)."""
    bayer = rgb[:, 1:2].clone()
    bayer[..., 0::2, 0::2] = rgb[:, 0:1, 0::2, 0::2]
    bayer[..., 1::2, 1::2] = rgb[:, 2:3, 1::2, 1::2]
    return bayer


def _demosaic(bayer: Tensor, kind: Tensor) -> Tensor:
    """Bilinear, gradient-corrected linear (Malvar et al., 2004) or edge-aware, by `kind`."""
    out = torch.where(kind < 0.2, _bilinear(bayer), _malvar(bayer))
    chosen = kind.flatten() > 0.65
    low, high = (f(bayer[chosen], dim=(1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
    scale = 65535 / (high - low).clamp_min(1e-6)
    sensors = ((bayer[chosen] - low) * scale)[:, 0].cpu().numpy().astype(np.uint16)
    edge_aware = [cv2.cvtColor(sensor, cv2.COLOR_BayerRGGB2RGB_EA) for sensor in sensors]
    if edge_aware:
        rgb = torch.from_numpy(np.stack(edge_aware).astype(np.float32)).to(bayer.device)
        out[chosen] = rgb.permute(0, 3, 1, 2) / scale + low
    return out


def _sites(bayer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Masks of the red, green and blue pixels, (1, 1, H, W) each."""
    red = torch.zeros_like(bayer[:1])
    red[..., 0::2, 0::2] = 1
    blue = torch.zeros_like(red)
    blue[..., 1::2, 1::2] = 1
    return red, 1 - red - blue, blue


def _filter(x: Tensor, kernel: list[list[float]]) -> Tensor:
    weight = x.new_tensor(kernel)[None, None]
    pad = weight.shape[-1] // 2
    return F.conv2d(F.pad(x, (pad, pad, pad, pad), mode="reflect"), weight)


def _bilinear(bayer: Tensor) -> Tensor:
    red, green, blue = _sites(bayer)
    cross = [[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]]
    plus = [[0.0, 0.25, 0.0], [0.25, 1.0, 0.25], [0.0, 0.25, 0.0]]
    return torch.cat(
        [_filter(bayer * red, cross), _filter(bayer * green, plus), _filter(bayer * blue, cross)],
        1,
    )


def _malvar(bayer: Tensor) -> Tensor:
    red, green, blue = _sites(bayer)
    at_cross = [
        [0, 0, -1 / 8, 0, 0],
        [0, 0, 2 / 8, 0, 0],
        [-1 / 8, 2 / 8, 4 / 8, 2 / 8, -1 / 8],
        [0, 0, 2 / 8, 0, 0],
        [0, 0, -1 / 8, 0, 0],
    ]
    along = [
        [0, 0, 1 / 16, 0, 0],
        [0, -1 / 8, 0, -1 / 8, 0],
        [-1 / 8, 4 / 8, 5 / 8, 4 / 8, -1 / 8],
        [0, -1 / 8, 0, -1 / 8, 0],
        [0, 0, 1 / 16, 0, 0],
    ]
    across = [list(column) for column in zip(*along, strict=True)]
    opposite = [
        [0, 0, -3 / 16, 0, 0],
        [0, 2 / 8, 0, 2 / 8, 0],
        [-3 / 16, 0, 6 / 8, 0, -3 / 16],
        [0, 2 / 8, 0, 2 / 8, 0],
        [0, 0, -3 / 16, 0, 0],
    ]
    cross, row, column, other = (_filter(bayer, k) for k in (at_cross, along, across, opposite))
    even_row = torch.zeros_like(red)
    even_row[..., 0::2, :] = 1
    red_row_green, blue_row_green = green * even_row, green * (1 - even_row)
    r = bayer * red + row * red_row_green + column * blue_row_green + other * blue
    g = bayer * green + cross * (red + blue)
    b = bayer * blue + column * red_row_green + row * blue_row_green + other * red
    return torch.cat([r, g, b], 1)


def _reduce_noise(noise: Tensor, draw: _Rand) -> Tensor:
    """Noise after in-camera noise reduction: blurred and coarse, chroma more than luma."""
    luma = noise.mean(1, keepdim=True)
    chroma = noise - luma
    # Coring removes small deviations and keeps large ones: heavy tails.
    power = luma.square().mean((1, 2, 3), keepdim=True)
    cored = luma * luma.square() / (luma.square() + power * draw.uniform(0.0, 2.0)).clamp_min(1e-12)
    luma = torch.where(draw.chance(0.5), cored, luma)
    softened = _blur(luma, draw.uniform(0.3, 1.1)) * draw.uniform(0.7, 1.5)
    softened = softened + _blur(chroma, draw.uniform(0.2, 2.2)) * draw.log_uniform(0.1, 1.0)
    noise = torch.where(draw.chance(0.65), softened, noise)
    return noise + noise.std((1, 2, 3), keepdim=True) * _blotches(noise, draw)


def _blotches(like: Tensor, draw: _Rand) -> Tensor:
    """Low-frequency noise that noise reduction leaves in some patches, mostly chroma."""
    size = like.shape[-2:]
    scale = draw.log_uniform(2, 10).flatten().tolist()
    luma, chroma = draw.uniform(0.0, 0.4), draw.uniform(0.1, 0.6)
    grain = torch.zeros_like(like)
    for i in torch.nonzero(draw.chance(0.45).flatten()).flatten().tolist():
        coarse_size = [math.ceil(side / scale[i]) for side in size]
        coarse = torch.randn((1, 3, *coarse_size), generator=draw.generator).to(draw.device)
        grain[i] = F.interpolate(coarse, size, mode="bicubic")[0]
    brightness = grain.mean(1, keepdim=True)
    return 1.7 * luma * brightness + chroma * (grain - brightness)


def _edge_preserving_reduction(
    noisy: Tensor, target: Tensor, chosen: Tensor, draw: _Rand
) -> tuple[Tensor, Tensor]:
    """Apply edge-preserving noise reduction: almost no noise in flat areas, all of it at edges.

    So a network must not assume that noise at edges and in texture is as faint as in flat areas: in
    JPEGs of DSLRs it is several times as strong (`training.statistics`, PolyU). Of the fine detail
    of each place it keeps the fraction that noise does not explain, by the local variance. The
    target is filtered in the same way: texture that the camera removed is not to be guessed.
    """
    sigma = draw.uniform(0.7, 2.0)
    luma = noisy.mean(1, keepdim=True)
    variance = _blur(luma.square(), sigma) - _blur(luma, sigma).square()
    power = (noisy - target).mean(1, keepdim=True).square().mean((1, 2, 3), keepdim=True)

    def gain(strength: Tensor) -> Tensor:
        kept = variance.clamp_min(0) / (variance + strength * power).clamp_min(1e-9)
        return _blur(kept, sigma)

    luma_gain, chroma_gain = (gain(draw.log_uniform(0.7, 15.0)) for _ in range(2))
    chroma_sigma = draw.uniform(0.7, 2.2)

    def reduced(x: Tensor) -> Tensor:
        y = x.mean(1, keepdim=True)
        chroma = x - y
        y_smooth, chroma_smooth = _blur(y, sigma), _blur(chroma, chroma_sigma)
        y = y_smooth + luma_gain * (y - y_smooth)
        return y + chroma_smooth + chroma_gain * (chroma - chroma_smooth)

    return torch.where(chosen, reduced(noisy), noisy), torch.where(chosen, reduced(target), target)


def _blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of (B, C, H, W) with one sigma per patch."""
    batch, channels, height, width = x.shape
    taps = torch.arange(-5, 6, device=x.device)
    kernel = torch.exp(-(taps**2) / (2 * sigma.reshape(-1, 1) ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # (B*C, 11)
    x = x.reshape(1, batch * channels, height, width)
    for shape, pad in (((1, 11), (5, 5, 0, 0)), ((11, 1), (0, 0, 5, 5))):
        weight = kernel.reshape(-1, 1, *shape)
        x = F.conv2d(F.pad(x, pad, mode="reflect"), weight, groups=batch * channels)
    return x.reshape(batch, channels, height, width)


def _resample(noisy: Tensor, target: Tensor, chosen: Tensor, draw: _Rand) -> tuple[Tensor, Tensor]:
    """Resize some patches by 0.5 to 3 and crop them to size (mirrored where smaller)."""
    size = noisy.shape[-1]
    scale = draw.log_uniform(0.5, 3.0).flatten()
    noisy, target = noisy.clone(), target.clone()
    for i in torch.nonzero(chosen.flatten()).flatten().tolist():
        pair = torch.stack([noisy[i], target[i]])
        pair = F.interpolate(pair, scale_factor=float(scale[i]), mode="bicubic", antialias=True)
        short = max(0, size - pair.shape[-1])
        if short:
            pair = torch.cat([pair, pair.flip(2)], 2)[:, :, :size]
            pair = torch.cat([pair, pair.flip(3)], 3)[..., :size]
        start = (pair.shape[-1] - size) // 2
        noisy[i], target[i] = pair[..., start : start + size, start : start + size]
    return noisy, target


def _sharpen(x: Tensor, amount: Tensor) -> Tensor:
    """Unsharp mask with a radius of one pixel."""
    return x + amount * (x - _blur(x, torch.ones_like(amount)))


def _quantise(noisy: Tensor, target: Tensor, as_jpeg: Tensor, draw: _Rand) -> tuple[Tensor, Tensor]:
    """Round to 8 bits; compress some as JPEG, quality 55 to 99, 4:4:4 to 4:2:0, once or twice.

    Photos are often cropped or rotated between the two compressions, or after the last: so the
    block grid has a random offset, except for most last compressions.

    JPEG removes fine chroma from every shot of a scene, so the target loses it as well.
    """
    first, last = (draw.uniform(low, 100).flatten().int().tolist() for low in (80, 55))
    subsampling = draw.uniform(0, 4).flatten().int().clamp_max(2).tolist()
    twice, anywhere = (draw.chance(p).flatten().tolist() for p in (0.3, 0.25))
    places = draw.uniform(0, 8, 2, 2).int().tolist()
    pixels, target = (noisy * 255).round().to(torch.uint8).cpu(), target.clone()
    codings: list[tuple[int, list[tuple[int, int, list[int]]]]] = []
    for i in torch.nonzero(as_jpeg).flatten().tolist():
        times = [(last[i], subsampling[i], places[i][1] if anywhere[i] else [0, 0])]
        if twice[i]:
            times.insert(0, (first[i], subsampling[i], places[i][0]))
        for _, _, place in times:
            target[i] = _coarse_colour(target[i], subsampling[i], place)
        codings.append((i, times))

    def code(coding: tuple[int, list[tuple[int, int, list[int]]]]) -> None:
        i, times = coding
        for time in times:
            pixels[i] = _as_jpeg(pixels[i], *time)

    if noisy.device.type == "cpu":  # Other workers use the cores.
        for coding in codings:
            code(coding)
    else:
        with ThreadPoolExecutor() as pool:
            list(pool.map(code, codings))
    return pixels.to(noisy.device).float() / 255, target.clamp(0, 1)


def _as_jpeg(pixels: Tensor, quality: int, subsampling: int, place: list[int]) -> Tensor:
    """Compress (3, H, W) uint8 as JPEG, its block grid offset by `place` pixels."""
    top, left = place
    wider = np.pad(pixels.numpy(), ((0, 0), (top, 0), (left, 0)), mode="reflect")
    file = io.BytesIO()
    Image.fromarray(wider.transpose(1, 2, 0)).save(
        file, "JPEG", quality=quality, subsampling=subsampling
    )
    coded = np.asarray(Image.open(file))[top:, left:]
    return torch.from_numpy(coded.copy()).permute(2, 0, 1)


def _coarse_colour(x: Tensor, subsampling: int, place: list[int]) -> Tensor:
    """Apply only the chroma subsampling of JPEG to (3, H, W); see `_as_jpeg`."""
    if subsampling == 0:
        return x
    step, (top, left) = ((1, 2) if subsampling == 1 else (2, 2)), place
    luma = torch.einsum("chw,c->hw", x, x.new_tensor(_REC_601))
    colour = F.pad((x - luma)[None], (left, 0, top, 0), mode="reflect")
    height, width = colour.shape[-2:]
    colour = F.avg_pool2d(colour, step, ceil_mode=True)
    colour = F.interpolate(colour, scale_factor=step, mode="bilinear")
    return luma + colour[0, :, top:height, left:width]
