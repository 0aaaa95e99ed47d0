"""NAFNet's baseline: "Simple Baselines for Image Restoration", ECCV 2022."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amsnet_cli.core.pixel_shuffle import Padding

_WIDTHS = (32, 64, 128, 256, 512)
_ENCODER_BLOCKS = (2, 2, 4, 8)
_MIDDLE_BLOCKS = 12
_DECODER_BLOCKS = (2, 2, 2, 2)


class BaselineBlock(nn.Module):
    """Two residual branches: depthwise convolution with channel attention, then an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # Zero, so that an untrained block is the identity.
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.conv1 = nn.Conv2d(width, width, 1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.conv3 = nn.Conv2d(width, width, 1)
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // 2, width, 1),
            nn.Sigmoid(),
        )
        self.conv4 = nn.Conv2d(width, 2 * width, 1)
        self.conv5 = nn.Conv2d(2 * width, width, 1)
        self.norm1 = ChannelNorm(width, eps=1e-6)
        self.norm2 = ChannelNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        spatial = F.gelu(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.beta * self.conv3(spatial * self.se(spatial))
        pointwise: Tensor = self.conv5(F.gelu(self.conv4(self.norm2(x))))
        return x + self.gamma * pointwise


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NAFNet(nn.Module):
    """A U-Net of `BaselineBlock`s, width 32 (Chen et al., arXiv 2204.04676).

    The paper's baseline with GELU and sigmoid, not its activation-free network. The state
    dict has the keys of the checkpoint that the authors of AMSNet published.

    Attributes:
        multiple, padding, reach, runs_in_bfloat16: see `Network`.
    """

    multiple = 16
    padding: Padding = "zeros"
    reach: int | None = None
    runs_in_bfloat16 = True

    def __init__(self) -> None:
        super().__init__()
        self.intro = nn.Conv2d(3, _WIDTHS[0], 3, padding=1)
        self.ending = nn.Conv2d(_WIDTHS[0], 3, 3, padding=1)
        self.encoders = nn.ModuleList(
            _stack(w, n) for w, n in zip(_WIDTHS[:-1], _ENCODER_BLOCKS, strict=True)
        )
        self.decoders = nn.ModuleList(
            _stack(w, n) for w, n in zip(_WIDTHS[-2::-1], _DECODER_BLOCKS, strict=True)
        )
        self.middle_blks = _stack(_WIDTHS[-1], _MIDDLE_BLOCKS)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, 4 * b, 1, bias=False), nn.PixelShuffle(2))
            for a, b in pairwise(reversed(_WIDTHS))
        )
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(_WIDTHS))

    def forward(self, x: Tensor) -> Tensor:
        """Denoise a batch of images.

        Args:
            x: (B, 3, H, W) float32 in [0, 1], sides multiples of 16.

        Returns:
            (B, 3, H, W) float32, not clamped.
        """
        image = x
        x = self.intro(x)
        skips = []
        for encode, down in zip(self.encoders, self.downs, strict=True):
            x = encode(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for up, decode in zip(self.ups, self.decoders, strict=True):
            x = decode(up(x) + skips.pop())
        residual: Tensor = self.ending(x)
        return image + residual


def _stack(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(BaselineBlock(width) for _ in range(blocks)))
