"""A network for the mosaic of an image sensor, told the noise and each photosite's colour."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amsnet_cli.core.networks.compact import CompactUNet, CompactUNetConfig
from amsnet_cli.core.pixel_shuffle import Padding


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
        detail = torch.asinh((filled - mean) / sigma)
        level = (sigma.log2() + 6) / 4
        inputs = torch.cat([filled, detail, level, colours, visible], 1)
        correction = self.unet(inputs.contiguous(memory_format=torch.channels_last)) - filled
        return filled + self.config.step * sigma * correction, sigma

    def _neighbours(
        self, mosaic: Tensor, colours: Tensor, visible: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Weighted mean and variance of visible photosites of the same colour, (B, 1, H, W)."""
        values = torch.where(visible.bool(), mosaic, 0)
        weights = colours * visible
        moments = torch.cat([weights, weights * values, weights * values.square()], 1)
        moments = self._smoothed(moments)
        moments = moments.reshape(-1, 3, 3, *moments.shape[2:])  # (B, 3 moments, 3 colours, H, W)
        # Where none is in reach, all of that colour count.
        everywhere = moments.mean((3, 4), keepdim=True)
        moments = torch.where(moments[:, :1] > 0, moments, everywhere)
        total, first, second = (moments * colours[:, None]).sum(2, keepdim=True).unbind(1)
        total = total.clamp_min(1e-12)
        mean = first / total
        return mean, (second / total - mean.square()).clamp_min(0)

    def _smoothed(self, planes: Tensor) -> Tensor:
        """Convolve each plane with the Gaussian; outside the mosaic there is nothing."""
        channels, half = planes.shape[1], len(self.kernel) // 2
        with torch.autocast(planes.device.type, enabled=False):
            down = self.kernel[:, None].expand(channels, 1, -1, 1)
            across = self.kernel[None].expand(channels, 1, 1, -1)
            planes = F.conv2d(planes, down, padding=(half, 0), groups=channels)
            return F.conv2d(planes, across, padding=(0, half), groups=channels)


@torch.inference_mode()
def denoise_stabilised(
    network: MosaicNetwork, mosaic: Tensor, sigma: Tensor, colours: Tensor, hidden: Tensor
) -> Tensor:
    """Denoise a whole mosaic of any size, Bayer in any phase.

    It is padded by reflection, which keeps the pattern of Bayer mosaics, until it begins with a red
    photosite beside a green one and its sides are multiples of `network.multiple`.

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
    sigma = sigma.expand_as(mosaic)
    mosaic, sigma, colours, seen = (
        F.pad(x, pad, mode="reflect") for x in (mosaic, sigma, colours, hidden.float())
    )
    denoised: Tensor = network(mosaic, sigma, colours, seen > 0.5)
    return denoised[..., top : top + height, left : left + width]


def red_corner(colours: Tensor) -> tuple[int, int]:
    """Return row and column, 0 or 1, of red in a Bayer mosaic; (0, 0) for every other one.

    Args:
        colours: (3, H, W): 1 where a photosite records red, green, blue, else 0.
    """
    red, green, blue = colours[:, :2, :2]
    bayer = bool(red.sum() == 1 and green.sum() == 2 and blue.sum() == 1)
    period = min(colours.shape[1] // 2, 6), min(colours.shape[2] // 2, 6)
    repeats = all(
        torch.equal(colours[:, : 2 * h, : 2 * w], colours[:, :2, :2].repeat(1, h, w))
        for h, w in [period]
    )
    if not (bayer and repeats):
        return 0, 0
    row, column = divmod(int(red.flatten().argmax()), 2)
    return row, column
