"""The wrapper that makes any denoising network predict masked pixels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from amsnet_cli.core.masks import Fill, fill_masked
from amsnet_cli.core.networks.conditioned import ConditionedUNet
from amsnet_cli.core.photo_noise import PhotoNoise
from amsnet_cli.core.pixel_shuffle import Padding, pad_to_multiple


class Network(Protocol):
    """Attributes that a denoising network has in addition to those of an `nn.Module`.

    Attributes:
        multiple: height and width of the input must be multiples of this.
        padding: how an image is padded to such a size.
        reach: radius of the receptive field in pixels; None if it is the whole image.
        runs_in_bfloat16: whether its convolutions may run in bfloat16 without banding in
            16-bit photos. True for networks that predict a residual.
    """

    multiple: int
    padding: Padding
    reach: int | None
    runs_in_bfloat16: bool

    def __call__(self, x: Tensor, /) -> Tensor:
        """Map (B, C, H, W), or (B, C + 1, H, W) with a mask channel, to (B, C, H, W) float32."""
        ...


class MaskedNetwork(nn.Module):
    """Fill the masked pixels, append the mask, pad, run the network, crop.

    An instance is a `core.multi_mask.Predictor`.

    Args:
        network: maps (B, C, H, W), or (B, C + 1, H, W) with the mask as its last channel, to
            (B, C, H, W), for sides that are multiples of `network.multiple`; a `ConditionedUNet`
            is told the noise as well.
        fill: what replaces masked pixels, see `core.masks.fill_masked`.
        mask_channel: whether the network gets the mask as an extra channel.
    """

    def __init__(self, network: Network, *, fill: Fill, mask_channel: bool) -> None:
        super().__init__()
        self.network = network
        self.fill: Fill = fill
        self.mask_channel = mask_channel

    @property
    def runs_in_bfloat16(self) -> bool:
        """As of the network within."""
        return self.network.runs_in_bfloat16

    @property
    def is_told(self) -> bool:
        """Whether the network is told the noise."""
        return isinstance(self.network, ConditionedUNet)

    def estimate_noise(self, photos: Tensor, *, one_photo: bool = False) -> PhotoNoise:
        """Estimate the noise of photos; see `noise_estimator.NoiseEstimator.estimate`.

        Raises:
            TypeError: the network is not told the noise.
        """
        if not isinstance(self.network, ConditionedUNet):
            raise TypeError("this network is not told the noise")
        return self.network.estimator.estimate(photos, one_photo=one_photo)

    def forward(self, noisy: Tensor, mask: Tensor, noise: PhotoNoise | None = None) -> Tensor:
        """Predict every pixel from the visible ones.

        Args:
            noisy: (B, C, H, W) float32 in [0, 1], any size.
            mask: (B, 1, H, W) bool, True where masked.
            noise: of the B photos, or of one for all; None estimates that of each from itself,
                masked pixels included. Ignored by networks that are not told.

        Returns:
            (B, C, H, W) float32, not clamped.
        """
        x = fill_masked(noisy, mask, self.fill)
        if self.mask_channel:
            x = torch.cat([x, mask.to(x.dtype)], 1)  # (B, C + 1, H, W)
        height, width = noisy.shape[-2:]
        x = pad_to_multiple(x, self.network.multiple, self.network.padding)  # (B, _, H', W')
        if isinstance(self.network, ConditionedUNet):
            told = self.estimate_noise(noisy) if noise is None else noise
            denoised: Tensor = self.network(x, told)
        else:
            denoised = self.network(x.contiguous(memory_format=torch.channels_last))
        return denoised[..., :height, :width].float()
