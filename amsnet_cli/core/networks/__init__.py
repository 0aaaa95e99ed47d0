"""Denoising networks, and the wrapper that lets any of them predict hidden pixels."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from amsnet_cli.core.masks import Fill, fill_hidden
from amsnet_cli.core.networks.compact import LIGHT, CompactUNet, CompactUNetConfig
from amsnet_cli.core.networks.deamnet import DeamNet
from amsnet_cli.core.networks.dncnn import DnCNN
from amsnet_cli.core.networks.nafnet import NAFNet
from amsnet_cli.core.networks.restormer import Restormer
from amsnet_cli.core.networks.unet import UNet
from amsnet_cli.core.pixel_shuffle import Padding, pad_to_multiple

__all__ = [
    "LIGHT",
    "CompactUNet",
    "CompactUNetConfig",
    "DeamNet",
    "DnCNN",
    "MaskedNetwork",
    "NAFNet",
    "Network",
    "PaperNetwork",
    "Restormer",
    "UNet",
    "make_network",
]

PaperNetwork = Literal["restormer", "deamnet", "nafnet", "unet", "dncnn"]
"""The denoisers of the paper, each of one shape."""


class Network(Protocol):
    """What every network here is, beside an `nn.Module`.

    Attributes:
        multiple: what the sides of a picture must be multiples of.
        padding: what a picture is extended with to such sides.
        reach: how many pixels to each side of a pixel can change its result, at most; None where
            all can.
        runs_in_bfloat16: whether its result keeps the depth of photos where its convolutions run in
            bfloat16: it does where the network adds to the picture instead of making it anew.
    """

    multiple: int
    padding: Padding
    reach: int | None
    runs_in_bfloat16: bool

    def __call__(self, x: Tensor, /) -> Tensor:
        """Map (B, C, H, W), or (B, C + 1, H, W), float32 to (B, C, H, W) float32."""
        ...


def make_network(shape: CompactUNetConfig | PaperNetwork) -> Network:
    """Make a network with fresh weights, drawn from torch's global generator."""
    if isinstance(shape, CompactUNetConfig):
        return CompactUNet(shape)
    classes: dict[PaperNetwork, type[Network]] = {
        "restormer": Restormer, "deamnet": DeamNet, "nafnet": NAFNet, "unet": UNet, "dncnn": DnCNN,
    }  # fmt: skip
    return classes[shape]()


class MaskedNetwork(nn.Module):
    """A network as a `core.inference.Predictor`: fills hidden pixels, pads, crops.

    Args:
        network: maps (B, C, H, W), or (B, C + 1, H, W) with the mask as last channel, to a
            denoised (B, C, H, W), for sides that are multiples of `network.multiple`.
        fill: what hidden pixels are replaced by.
        mask_channel: whether the network is told which pixels were hidden.
    """

    def __init__(self, network: Network, *, fill: Fill, mask_channel: bool) -> None:
        super().__init__()
        self.network = network
        self.fill: Fill = fill
        self.mask_channel = mask_channel

    def forward(self, noisy: Tensor, hidden: Tensor) -> Tensor:
        """Predict every pixel from the visible ones.

        Args:
            noisy: (B, C, H, W) float32 in [0, 1], any size.
            hidden: (B, 1, H, W) bool, True where hidden.

        Returns:
            (B, C, H, W) float32.
        """
        filled = fill_hidden(noisy, hidden, self.fill)
        seen = torch.cat([filled, hidden.to(filled.dtype)], 1) if self.mask_channel else filled
        height, width = noisy.shape[-2:]
        padded = pad_to_multiple(seen, self.network.multiple, self.network.padding)
        denoised: Tensor = self.network(padded.contiguous(memory_format=torch.channels_last))
        return denoised[..., :height, :width].float()
