"""The U-Net of Noise2Noise (ICML 2018), as in Neighbor2Neighbor (CVPR 2021)."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amsnet_cli.core.pixel_shuffle import Padding


class UNet(nn.Module):
    """A U-Net with five poolings and concatenated skips; the last skip is the input image.

    Lehtinen et al., arXiv 1803.04189; Huang et al., arXiv 2101.02824. It predicts the image, not
    a residual. The state dict has the keys of the checkpoint that the authors of AMSNet published.

    Attributes:
        multiple, padding, reach, runs_in_bfloat16: see `Network`.
    """

    multiple = 32
    padding: Padding = "reflection"
    reach: int | None = 157
    runs_in_bfloat16 = False

    def __init__(self) -> None:
        super().__init__()
        self.enc_conv0 = _conv(3, 128)
        self.enc_conv1 = _conv(128, 128)
        self.enc_conv2 = _conv(128, 128)
        self.enc_conv3 = _conv(128, 128)
        self.enc_conv4 = _conv(128, 128)
        self.enc_conv5 = _conv(128, 128)
        self.enc_conv6 = _conv(128, 128)
        self.up5 = _up(128)
        self.dec_conv5a = _conv(128 + 128, 256)
        self.dec_conv5b = _conv(256, 256)
        self.up4 = _up(256)
        self.dec_conv4a = _conv(256 + 128, 256)
        self.dec_conv4b = _conv(256, 256)
        self.up3 = _up(256)
        self.dec_conv3a = _conv(256 + 128, 256)
        self.dec_conv3b = _conv(256, 256)
        self.up2 = _up(256)
        self.dec_conv2a = _conv(256 + 128, 256)
        self.dec_conv2b = _conv(256, 256)
        self.up1 = _up(256)
        self.dec_conv1a = _conv(256 + 3, 96)
        self.dec_conv1b = _conv(96, 96)
        self.nin_a = nn.Conv2d(96, 96, 1)
        self.nin_b = nn.Conv2d(96, 96, 1)
        self.nin_c = nn.Conv2d(96, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise a batch of images.

        Args:
            x: (B, 3, H, W) float32 in [0, 1], sides multiples of 32.

        Returns:
            (B, 3, H, W) float32, not clamped.
        """
        skips = [x]
        x = _activate(self.enc_conv0(x))
        for conv in (self.enc_conv1, self.enc_conv2, self.enc_conv3, self.enc_conv4):
            x = F.max_pool2d(_activate(conv(x)), 2)
            skips.append(x)
        x = F.max_pool2d(_activate(self.enc_conv5(x)), 2)
        x = _activate(self.enc_conv6(x))
        for up, first, second in (
            (self.up5, self.dec_conv5a, self.dec_conv5b),
            (self.up4, self.dec_conv4a, self.dec_conv4b),
            (self.up3, self.dec_conv3a, self.dec_conv3b),
            (self.up2, self.dec_conv2a, self.dec_conv2b),
            (self.up1, self.dec_conv1a, self.dec_conv1b),
        ):
            x = torch.cat([up(x), skips.pop()], 1)
            x = _activate(second(_activate(first(x))))
        x = _activate(self.nin_b(_activate(self.nin_a(x))))
        image: Tensor = self.nin_c(x)
        return image


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _up(width: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(deconv=nn.ConvTranspose2d(width, width, 2, stride=2)))


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
