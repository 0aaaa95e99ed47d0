"""A network for the mosaic of an image sensor, told the noise and each photosite's colour."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amsnet_cli.core.networks.asinh import asinh
from amsnet_cli.core.networks.compact import CompactUNet, CompactUNetConfig
from amsnet_cli.core.pixel_shuffle import Padding

_CORNER = 24
"""Rows and columns that tell how colours repeat."""
_NOTHING = 1e-7
"""Least sum of weights, rounding aside, that a neighbour in reach gives."""


@dataclass(frozen=True, kw_only=True)
class MosaicNetworkConfig:
    """Shape of a `MosaicNetwork`.

    Attributes:
        unet: the U-Net within; seven channels in, one out.
        step: the correction is the U-Net's output times this many standard deviations.
        window: taps of the Gaussian over neighbours of the same colour, odd. X-Trans has red and
            blue photosites up to four apart.
        spread: standard deviation of that Gaussian, in photosites.
    """

    unet: CompactUNetConfig = field(
        default_factory=lambda: CompactUNetConfig(
            in_channels=7, out_channels=1, widths=(48, 96, 160), blocks=(2, 2, 2), unshuffle=2
        )
    )
    step: float = 4.0
    window: int = 9
    spread: float = 1.5


class MosaicNetwork(nn.Module):
    """Denoises the mosaics of any colour filter array: Bayer, X-Trans, monochrome.

    The values are in the scale in which noise is even (`amsnet_cli.noise.sensor`). The network sees
    them in two ways: as they are, and less the mean of neighbours of the same colour, in standard
    deviations of the noise. The second is what faint noise needs, which bfloat16 does not resolve
    in the first. It is also told the standard deviation (as FFDNet is; Zhang et al., TIP 2018), the
    colours and which photosites are hidden. Its correction is in standard deviations, so that
    little noise can only mean little change.

    A hidden photosite is filled with the weighted mean of its visible neighbours of the same
    colour (a normalised convolution; Knutsson and Westin, CVPR 1993). Its standard deviation is
    that of the noise and of those neighbours together.
    """

    padding: Padding = "reflection"
    runs_in_bfloat16 = True
    kernel: Tensor

    def __init__(self, config: MosaicNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = CompactUNet(config.unet)
        self.multiple = self.unet.multiple
        self.reach = self.unet.reach + config.window // 2
        taps = torch.arange(config.window) - config.window // 2
        kernel = torch.exp(-0.5 * (taps / config.spread) ** 2)
        self.register_buffer("kernel", kernel / kernel.sum(), persistent=False)

    def forward(self, mosaic: Tensor, sigma: Tensor, colours: Tensor, hidden: Tensor) -> Tensor:
        """Denoise mosaics.

        Args:
            mosaic: (B, 1, H, W) float32, stabilised; sides multiples of `self.multiple`. Bayer
                mosaics begin with the two by two photosites red, green, green, blue, which is how
                training shows them; X-Trans may begin anywhere.
            sigma: standard deviation of the noise in that scale, > 0; broadcasts with `mosaic`.
            colours: (B, 3, H, W) float32: 1 where a photosite records red, green, blue, else 0. A
                monochrome sensor has ones everywhere.
            hidden: (B, 1, H, W) bool: where `mosaic` is not looked at.

        Returns:
            (B, 1, H, W) float32, stabilised. At a hidden photosite it does not depend on the value
            there.
        """
        return self.denoise_with_sigma(mosaic, sigma, colours, hidden)[0]

    def denoise_with_sigma(
        self, mosaic: Tensor, sigma: Tensor, colours: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Denoise mosaics, and return the standard deviation of what was given at each photosite.

        It is `sigma`, but where a photosite is hidden that of the noise and of what the fill was
        made from together: the unit of the correction, and of errors in training. (B, 1, H, W).
        """
        visible = (~hidden).float()
        mean, variance = self._neighbours(mosaic, colours, visible)
        filled = torch.where(hidden, mean, mosaic)
        sigma = torch.where(hidden, (sigma.square() + variance).sqrt(), sigma)
        detail = asinh((filled - mean) / sigma)
        level = (sigma.log2() + 6) / 4
        inputs = torch.cat([filled, detail, level, colours, visible], 1)
        correction = self.unet(inputs.contiguous(memory_format=torch.channels_last)) - filled
        return filled + self.config.step * sigma * correction, sigma

    def sigma_given(self, mosaic: Tensor, sigma: Tensor, colours: Tensor, hidden: Tensor) -> Tensor:
        """Return the second result of `denoise_with_sigma` without denoising."""
        variance = self._neighbours(mosaic, colours, (~hidden).float())[1]
        return torch.where(hidden, (sigma.square() + variance).sqrt(), sigma)

    def _neighbours(
        self, mosaic: Tensor, colours: Tensor, visible: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Weighted mean and variance of visible photosites of the same colour, (B, 1, H, W)."""
        values = torch.where(visible.bool(), mosaic, 0)
        moments = torch.cat([visible, values, values.square()], 1)  # (B, 3, H, W)
        sums = torch.cat(
            [self._summed(m[None], c[None]) for m, c in zip(moments, colours, strict=True)]
        )
        none = sums[:, :1] < _NOTHING
        if none.any():  # Where none is in reach, all of that colour count.
            everywhere = (moments[:, :, None] * colours[:, None]).mean((3, 4))  # (B, 3, colours)
            own = torch.einsum("bmc,bchw->bmhw", everywhere, colours)
            sums = torch.where(none, own, sums)
        total, first, second = (sums[:, i : i + 1] for i in range(3))
        total = total.clamp_min(1e-12)
        mean = first / total
        return mean, (second / total - mean.square()).clamp_min(0)

    def _summed(self, planes: Tensor, colours: Tensor) -> Tensor:
        """Sum (1, C, H, W) over neighbours of the same colour, weighted by the Gaussian.

        The weights repeat with the colours. So it is a convolution of whole tiles of the pattern,
        with their photosites as channels: many times as fast as one of a plane for each colour.
        """
        period = colour_period(colours)
        half = len(self.kernel) // 2
        reach = -(-half // period)
        places = torch.arange(period, device=planes.device)
        steps = torch.arange(-reach, reach + 1, device=planes.device) * period
        away = steps + places[None, :, None] - places[:, None, None]  # (P, P, tiles)
        taps = F.pad(self.kernel, (1, 1))[(away + half + 1).clamp(0, 2 * half + 2)]
        tile = colours[0, :, :period, :period]
        same = torch.einsum("cab,cde->abde", tile, tile).clamp_max(1)
        weights = torch.einsum("adi,bej,abde->abdeij", taps, taps, same)
        weights = weights.reshape(period**2, period**2, len(steps), len(steps))
        height, width = planes.shape[2:]
        planes = F.pad(planes, (0, -width % period, 0, -height % period)).transpose(0, 1)
        with torch.autocast(planes.device.type, enabled=False):
            sums = F.conv2d(F.pixel_unshuffle(planes, period), weights, padding=reach)
        return F.pixel_shuffle(sums, period)[..., :height, :width].transpose(0, 1)


@torch.no_grad()
def denoise_stabilised(
    network: MosaicNetwork, mosaic: Tensor, sigma: Tensor, colours: Tensor, hidden: Tensor
) -> Tensor:
    """Denoise a whole mosaic of any size, Bayer in any phase.

    It is padded, in keeping with its pattern, until its sides are multiples of `network.multiple`
    and a Bayer mosaic begins with a red photosite beside a green one.

    Args:
        network: in which precision it runs is the caller's choice.
        mosaic: (1, 1, H, W) float32, stabilised; sides of 32 or more.
        sigma: standard deviation of the noise in that scale; (1, 1, 1, 1) or as `mosaic`.
        colours: (1, 3, H, W), as `MosaicNetwork.forward` takes them.
        hidden: (1, 1, H, W) bool.

    Returns:
        (1, 1, H, W) float32, stabilised.
    """
    height, width = mosaic.shape[2:]
    top, left = red_corner(colours[0])
    pad = (left, -(left + width) % network.multiple, top, -(top + height) % network.multiple)
    if any(pad):
        sigma = sigma.expand_as(mosaic)
        mosaic, sigma, colours, seen = (
            _padded(x, pad, colour_period(colours))
            for x in (mosaic, sigma, colours, hidden.float())
        )
        hidden = seen > 0.5
    denoised: Tensor = network(mosaic, sigma, colours, hidden)
    return denoised[..., top : top + height, left : left + width]


def red_corner(colours: Tensor) -> tuple[int, int]:
    """Return row and column, 0 or 1, of red in a Bayer mosaic; (0, 0) for every other one.

    Args:
        colours: (3, H, W): 1 where a photosite records red, green, blue, else 0.
    """
    red, green, blue = colours[:, :2, :2]
    bayer = bool(red.sum() == 1 and green.sum() == 2 and blue.sum() == 1)
    if not bayer or colour_period(colours[None]) != 2:
        return 0, 0
    row, column = divmod(int(red.flatten().argmax()), 2)
    return row, column


def _padded(x: Tensor, pad: tuple[int, int, int, int], period: int) -> Tensor:
    """Pad by reflection, or where that breaks the pattern by repeating its last tiles."""
    if period <= 2:
        return F.pad(x, pad, mode="reflect")
    left, right, top, bottom = pad
    assert not (left or top)
    rows, columns = (
        torch.cat([torch.arange(n), n - period + torch.arange(more) % period]).to(x.device)
        for n, more in ((x.shape[2], bottom), (x.shape[3], right))
    )
    return x[:, :, rows][..., columns]


def colour_period(colours: Tensor) -> int:
    """Return the side of the square of photosites that the colours repeat: 2 for Bayer mosaics.

    Args:
        colours: (1, 3, H, W): 1 where a photosite records red, green, blue, else 0.

    Raises:
        ValueError: they repeat none of up to eight photosites.
    """
    colours = colours[..., :_CORNER, :_CORNER]
    for period in (1, 2, 6, 4, 8):  # monochrome, Bayer, X-Trans, and rarities
        down = torch.equal(colours[:, :, period:], colours[:, :, :-period])
        if down and torch.equal(colours[..., period:], colours[..., :-period]):
            return period
    raise ValueError("the colours of this mosaic do not repeat every one to eight photosites")
