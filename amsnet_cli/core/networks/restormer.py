"""Restormer: "Efficient Transformer for High-Resolution Image Restoration", CVPR 2022."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amsnet_cli.core.pixel_shuffle import Padding


class ChannelScale(nn.Module):
    """Bias-free layer norm: divide each pixel by the standard deviation of its channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        # `var` would be shorter, and is much slower on CPUs.
        variance = (x - x.mean(1, keepdim=True)).square().mean(1, keepdim=True)  # (B, 1, H, W)
        return x * torch.rsqrt(variance + 1e-5) * self.weight[:, None, None]


class ChannelAttention(nn.Module):
    """Attention between channels, not pixels, so linear in the image size (MDTA)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.qkv_dwconv = _depthwise(3 * width)
        self.project_out = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        batch, _, height, width = x.shape
        qkv = self.qkv_dwconv(self.qkv(x))  # (B, 3*C, H, W)
        q, k, v = qkv.reshape(batch, 3, self.heads, -1, height * width).unbind(1)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)  # (B, heads, C/heads, H*W)
        similarity = q @ k.transpose(-2, -1)  # (B, heads, C/heads, C/heads)
        mixed = (similarity * self.temperature).softmax(-1) @ v  # (B, heads, C/heads, H*W)
        projected: Tensor = self.project_out(mixed.reshape(x.shape))  # (B, C, H, W)
        return projected


class GatedFeedForward(nn.Module):
    """An MLP with a depthwise convolution; one half gates the other (GDFN)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = int(2.66 * width)
        self.project_in = nn.Conv2d(width, 2 * hidden, 1, bias=False)
        self.dwconv = _depthwise(2 * hidden)
        self.project_out = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        gate, value = self.dwconv(self.project_in(x)).chunk(2, 1)
        projected: Tensor = self.project_out(F.gelu(gate) * value)
        return projected


class TransformerBlock(nn.Module):
    """Attention, then the feed-forward network, each pre-normalised and residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = _body(ChannelScale(width))
        self.attn = ChannelAttention(width, heads)
        self.norm2 = _body(ChannelScale(width))
        self.ffn = GatedFeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        x = x + self.attn(self.norm1(x))
        residual: Tensor = self.ffn(self.norm2(x))
        return x + residual


class Restormer(nn.Module):
    """A U-Net of transformer blocks, width 48 (Zamir et al., arXiv 2111.09881).

    The published real-noise denoiser: four levels, no biases. At full resolution the decoder
    keeps the 96 channels of the concatenated skip. The state dict has the keys of the checkpoint
    that the authors of AMSNet published.

    Attributes:
        multiple, padding, reach, runs_in_bfloat16: see `Network`.
    """

    multiple = 8
    padding: Padding = "reflection"
    reach: int | None = None
    runs_in_bfloat16 = True

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Sequential(OrderedDict(proj=_conv(3, 48)))
        self.encoder_level1 = _stack(48, blocks=4, heads=1)
        self.down1_2 = _down(48)
        self.encoder_level2 = _stack(96, blocks=6, heads=2)
        self.down2_3 = _down(96)
        self.encoder_level3 = _stack(192, blocks=6, heads=4)
        self.down3_4 = _down(192)
        self.latent = _stack(384, blocks=8, heads=8)
        self.up4_3 = _up(384)
        self.reduce_chan_level3 = nn.Conv2d(384, 192, 1, bias=False)
        self.decoder_level3 = _stack(192, blocks=6, heads=4)
        self.up3_2 = _up(192)
        self.reduce_chan_level2 = nn.Conv2d(192, 96, 1, bias=False)
        self.decoder_level2 = _stack(96, blocks=6, heads=2)
        self.up2_1 = _up(96)
        self.decoder_level1 = _stack(96, blocks=4, heads=1)
        self.refinement = _stack(96, blocks=4, heads=1)
        self.output = _conv(96, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise a batch of images.

        Args:
            x: (B, 3, H, W) float32 in [0, 1], sides multiples of 8.

        Returns:
            (B, 3, H, W) float32, not clamped.
        """
        level1 = self.encoder_level1(self.patch_embed(x))
        level2 = self.encoder_level2(self.down1_2(level1))
        level3 = self.encoder_level3(self.down2_3(level2))
        deepest = self.latent(self.down3_4(level3))
        level3 = torch.cat([self.up4_3(deepest), level3], 1)
        level3 = self.decoder_level3(self.reduce_chan_level3(level3))
        level2 = torch.cat([self.up3_2(level3), level2], 1)
        level2 = self.decoder_level2(self.reduce_chan_level2(level2))
        level1 = torch.cat([self.up2_1(level2), level1], 1)
        level1 = self.refinement(self.decoder_level1(level1))
        residual: Tensor = self.output(level1)
        return x + residual


def _stack(width: int, *, blocks: int, heads: int) -> nn.Sequential:
    return nn.Sequential(*(TransformerBlock(width, heads) for _ in range(blocks)))


def _down(width: int) -> nn.Sequential:
    return _body(nn.Sequential(_conv(width, width // 2), nn.PixelUnshuffle(2)))


def _up(width: int) -> nn.Sequential:
    return _body(nn.Sequential(_conv(width, 2 * width), nn.PixelShuffle(2)))


def _body(module: nn.Module) -> nn.Sequential:
    """Nest a module under `body`, as in the published state dict."""
    return nn.Sequential(OrderedDict(body=module))


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _depthwise(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
