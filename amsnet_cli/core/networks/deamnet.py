"""DeamNet: "Adaptive Consistency Prior Based Deep Network for Image Denoising", CVPR 2021."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from amsnet_cli.core.pixel_shuffle import Padding


class FeatureTransform(nn.Module):
    """Map an image to the feature space of the iterations."""

    def __init__(self) -> None:
        super().__init__()
        self.ext = _conv(3, 64)
        self.pre = nn.Sequential(_conv(64, 64), nn.ReLU(inplace=True), _conv(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 64, H, W)."""
        features = self.ext(x)
        transformed: Tensor = features + self.pre(features)
        return transformed


class InverseTransform(nn.Module):
    """Map features back to an image."""

    def __init__(self) -> None:
        super().__init__()
        self.ext = _conv(64, 3)
        self.pre = nn.Sequential(_conv(64, 64), nn.ReLU(inplace=True), _conv(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 64, H, W) to (B, 3, H, W)."""
        image: Tensor = self.ext(x + self.pre(x))
        return image


class Consistency(nn.Module):
    """Blend denoised features with the noisy ones; attention gives the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.cat = _conv(128, 64, 1)
        self.C = _conv(64, 64)
        self.weight = nn.Sequential(OrderedDict(conv_du=_attention()))

    def forward(self, denoised: Tensor, noisy: Tensor) -> Tensor:
        """Map two (B, 64, H, W) to the same shape."""
        both = torch.cat([self.C(noisy), denoised], 1)  # (B, 128, H, W)
        weight: Tensor = self.weight(self.cat(both))
        return torch.lerp(denoised, noisy, weight)


class Encode(nn.Module):
    """Two convolutions, which give the skip, and a third that halves the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv_relu(), _conv_relu(), _conv_relu(stride=2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, 64, H, W) to the skip of that shape and (B, 64, H/2, W/2)."""
        first, second, halve = self.body
        skip: Tensor = second(first(x))
        return skip, halve(skip)


class Gate(nn.Module):
    """Blend a skip with the coarser level; attention gives the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_du = _attention()
        self.cat = _conv(128, 64, 1)
        self.C = _conv(64, 64)
        self.ConvTranspose = _up()

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Map (B, 64, H, W) and (B, 64, H/2, W/2) to (B, 64, H, W)."""
        up = self.ConvTranspose(below)
        weight = self.conv_du(self.cat(torch.cat([self.C(skip), up], 1)))
        return torch.lerp(up, skip, weight)


class Merge(nn.Module):
    """Concatenate a gated skip with the coarser level."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv_relu()
        self.ConvTranspose = _up()
        self.cat = _conv(128, 64, 1)

    def forward(self, gated: Tensor, below: Tensor) -> Tensor:
        """Map (B, 64, H, W) and (B, 64, H/2, W/2) to (B, 64, H, W)."""
        both = torch.cat([self.conv1(gated), self.ConvTranspose(below)], 1)
        merged: Tensor = self.cat(both)
        return merged


class Decode(nn.Module):
    """Merge two levels, then apply two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.upsample = Merge()
        self.body = nn.Sequential(_conv_relu(), _conv_relu())

    def forward(self, gated: Tensor, below: Tensor) -> Tensor:
        """Map (B, 64, H, W) and (B, 64, H/2, W/2) to (B, 64, H, W)."""
        decoded: Tensor = self.body(self.upsample(gated, below))
        return decoded


class FeatureDenoiser(nn.Module):
    """A residual U-Net of four levels with gated skips, 64 features throughout."""

    def __init__(self) -> None:
        super().__init__()
        # In the published state dict, but never used, so never trained.
        self.conv_dila1 = _conv(64, 64, 3).requires_grad_(False)
        self.conv_dila2 = _conv(64, 64, 5).requires_grad_(False)
        self.conv_dila3 = _conv(64, 64, 7).requires_grad_(False)
        self.cat1 = nn.Conv2d(192, 64, 1).requires_grad_(False)
        self.e3, self.e2, self.e1, self.e0 = Encode(), Encode(), Encode(), Encode()
        self.attention3, self.attention2 = Gate(), Gate()
        self.attention1, self.attention0 = Gate(), Gate()
        self.mid = nn.Sequential(_conv_relu(), _conv_relu())
        self.de3, self.de2, self.de1, self.de0 = Decode(), Decode(), Decode(), Decode()
        self.final = _conv(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 64, H, W), sides multiples of 16, to the same shape."""
        skip0, below = self.e0(x)
        skip1, below = self.e1(below)
        skip2, below = self.e2(below)
        skip3, below = self.e3(below)
        below = self.mid(below)
        below = self.de3(self.attention3(skip3, below), below)
        below = self.de2(self.attention2(skip2, below), below)
        below = self.de1(self.attention1(skip1, below), below)
        below = self.de0(self.attention0(skip0, below), below)
        residual: Tensor = self.final(below)
        return x + residual


class DeamNet(nn.Module):
    """Four passes of one shared denoiser in feature space (Ren et al., CVPR 2021).

    After each pass, attention blends some of the noisy features back in: an unrolled iteration
    with an adaptive consistency prior. The state dict has the keys of the checkpoint that the
    authors of AMSNet published.

    Attributes:
        multiple, padding, reach, runs_in_bfloat16: see `Network`.
    """

    multiple = 16
    padding: Padding = "reflection"
    reach: int | None = 746
    runs_in_bfloat16 = False

    def __init__(self) -> None:
        super().__init__()
        self.transform_function = FeatureTransform()
        self.inverse_transform_function = InverseTransform()
        self.line11 = Consistency()
        self.line22 = Consistency()
        self.line33 = Consistency()
        self.line44 = Consistency()
        self.net2 = FeatureDenoiser()

    def forward(self, x: Tensor) -> Tensor:
        """Denoise a batch of images.

        Args:
            x: (B, 3, H, W) float32 in [0, 1], sides multiples of 16.

        Returns:
            (B, 3, H, W) float32, not clamped.
        """
        noisy = self.transform_function(x)
        features = noisy
        for consistency in (self.line11, self.line22, self.line33, self.line44):
            features = consistency(self.net2(features), noisy)
        image: Tensor = self.inverse_transform_function(features)
        return image


def _conv(inputs: int, outputs: int, size: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    return nn.Sequential(OrderedDict(conv2d=conv))


def _conv_relu(stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(64, 64, 3, stride, padding=1)
    return nn.Sequential(OrderedDict(block=nn.Sequential(conv, nn.ReLU(inplace=True))))


def _up() -> nn.Sequential:
    return nn.Sequential(OrderedDict(up=nn.Upsample(scale_factor=2), conv2d=_conv_relu()))


def _attention() -> nn.Sequential:
    """Attention weights in [0, 1], in the shape of the input."""
    return nn.Sequential(_conv(64, 4), nn.ReLU(inplace=True), _conv(4, 64), nn.Sigmoid())
