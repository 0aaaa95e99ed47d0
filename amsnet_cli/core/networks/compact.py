"""CompactUNet, the default network: a small residual U-Net that is fast on CPUs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amsnet_cli.core.networks import fused
from amsnet_cli.core.pixel_shuffle import Padding


@dataclass(frozen=True, kw_only=True)
class CompactUNetConfig:
    """Shape of a `CompactUNet`.

    Attributes:
        in_channels: image channels, plus one for the mask channel.
        out_channels: image channels.
        widths: features at each level, finest first; each level halves the resolution.
        blocks: residual blocks in the encoder at each level. The decoder has the same number,
            without the deepest level.
        unshuffle: pixel-unshuffle factor at the input, undone at the output (FFDNet, Zhang et
            al., TIP 2018); 1 for none.
    """

    in_channels: int = 4
    out_channels: int = 3
    widths: tuple[int, ...] = (32, 64, 128, 160)
    blocks: tuple[int, ...] = (1, 1, 1, 2)
    unshuffle: int = 1


LIGHT = CompactUNetConfig(widths=(48, 96, 160), blocks=(1, 1, 2), unshuffle=2)
"""Configuration of the default weights, and of fits from scratch."""


class ResidualBlock(nn.Module):
    """x + conv(act(conv(x))), 3x3, without normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape; without gradients x may be overwritten."""
        if fused.can_fuse(x):
            return fused.add_to(x, self.second, fused.leaky_relu_of(self.first, x, 0.1))
        residual: Tensor = self.second(F.leaky_relu_(self.first(x), 0.1))
        return residual.add_(x)


class CompactUNet(nn.Module):
    """A residual U-Net with additive skips and no normalisation.

    All levels cost the same except the deepest, which is cheap and has half of the parameters.

    Multiply-adds for each full-resolution pixel with the default configuration, mask channel
    included (a level at 1/f resolution counts 1/f^2):

    ================================  ==================================  =======
    head, 4 -> 32, 3x3                9 * 4 * 32                            1,152
    level 1, 1 + 1 blocks of 32       4 * 9 * 32 * 32                      36,864
    level 1/2, 1 + 1 blocks of 64     4 * 9 * 64 * 64 / 4                  36,864
    level 1/4, 1 + 1 blocks of 128    4 * 9 * 128 * 128 / 16               36,864
    level 1/8, 2 blocks of 160        4 * 9 * 160 * 160 / 64               14,400
    down 2x2, 32 -> 64                4 * 32 * 64 / 4                       2,048
    down 2x2, 64 -> 128               4 * 64 * 128 / 16                     2,048
    down 2x2, 128 -> 160              4 * 128 * 160 / 64                    1,280
    up 1x1, the same three            the same                              5,376
    tail, 32 -> 3, 3x3                9 * 32 * 3                              864
    total                                                                 137,760
    ================================  ==================================  =======

    With `unshuffle` no layer runs at full resolution, where CPUs are slowest at the same number of
    multiply-adds. `LIGHT` needs 63,120.
    """

    padding: Padding = "reflection"
    runs_in_bfloat16 = True

    def __init__(self, config: CompactUNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, blocks = config.widths, config.blocks
        factor = config.unshuffle
        self.multiple = factor * 2 ** (len(widths) - 1)
        # Receptive field: two convolutions in each block; encoder and decoder on all levels but
        # the deepest; head and tail; and the worst alignment with the halvings.
        convolutions = [2 * n for n in blocks[-1:]] + [4 * n for n in blocks[-2::-1]]
        steps = [factor * 2**level for level in reversed(range(len(widths)))]
        self.reach = sum(c * s for c, s in zip(convolutions, steps, strict=True))
        self.reach += 2 * factor + self.multiple - 1
        self.head = nn.Conv2d(config.in_channels * factor**2, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(_stack(w, n) for w, n in zip(widths, blocks, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(
            _stack(w, n) for w, n in zip(widths[:-1], blocks[:-1], strict=True)
        )
        self.tail = nn.Conv2d(widths[0], config.out_channels * factor**2, 3, padding=1)
        # Start near the identity: without normalisation, full-size residuals make training
        # diverge in the first thousand steps.
        with torch.no_grad():
            self.tail.weight.mul_(0.1)
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    module.second.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise a batch of images.

        Args:
            x: (B, in_channels, H, W) float32, sides multiples of `self.multiple`; the first
                `out_channels` are the image.

        Returns:
            (B, out_channels, H, W) float32: image plus residual. They are added in float32 even
            if convolutions run in bfloat16, so that 16-bit photos keep their depth.
        """
        return x[:, : self.config.out_channels] + self.residual(x)

    def residual(self, x: Tensor) -> Tensor:
        """Return what `forward` adds to the image, (B, out_channels, H, W) float32."""
        x = self._unshuffled_head(x)
        skips = []
        for encode, down in zip(self.encoder, self.down, strict=False):
            x = encode(x)
            skips.append(x)
            x = down(x)
        x = self.encoder[-1](x)
        for up, decode in zip(reversed(self.up), reversed(self.decoder), strict=True):
            x = up(x)  # One step a line: what is done with is freed before the next.
            x = F.pixel_shuffle(x, 2)
            x.add_(skips.pop())
            x = decode(x)
        return F.pixel_shuffle(self.tail(x), self.config.unshuffle).float()

    def _unshuffled_head(self, x: Tensor) -> Tensor:
        """Unshuffle and convolve; without gradients in one, as moving pixels takes CPUs longer."""
        factor = self.config.unshuffle
        if factor == 1 or torch.is_grad_enabled():
            head: Tensor = self.head(F.pixel_unshuffle(x, factor))
            return head
        # Weight of input channel (c, dy, dx) at (i, j) is that of c at (factor * i + dy, ...).
        out, channels, rows, columns = self.head.weight.shape
        weight = self.head.weight.view(out, -1, factor, factor, rows, columns)
        weight = weight.permute(0, 1, 4, 2, 5, 3)
        weight = weight.reshape(out, channels // factor**2, factor * rows, factor * columns)
        return F.conv2d(x, weight, self.head.bias, stride=factor, padding=factor)


def _stack(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
