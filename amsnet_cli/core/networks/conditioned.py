"""A U-Net that is told the noise, with its own estimator for photos whose noise is not known."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amsnet_cli.core.networks.asinh import asinh
from amsnet_cli.core.networks.compact import CompactUNet, CompactUNetConfig
from amsnet_cli.core.networks.noise_estimator import NoiseEstimator, NoiseEstimatorConfig
from amsnet_cli.core.photo_noise import CHANNELS, SPECTRUM, PhotoNoise
from amsnet_cli.core.pixel_shuffle import Padding

INPUTS = 3 + 1 + 3 + 3 + SPECTRUM
"""Photo, mask, detail, level, spectrum."""
_MEAN = 4
"""Side in pixels of the means that detail is measured from."""


@dataclass(frozen=True, kw_only=True)
class ConditionedUNetConfig:
    """Shape of a `ConditionedUNet`.

    Attributes:
        unet: the U-Net within; `INPUTS` channels in, three out.
        estimator: of the noise.
        step: corrections up to about this many standard deviations are linear in the U-Net's
            output, larger ones grow as its logarithm.
    """

    unet: CompactUNetConfig = field(
        default_factory=lambda: CompactUNetConfig(
            in_channels=INPUTS, widths=(48, 96, 160), blocks=(1, 1, 2), unshuffle=2
        )
    )
    estimator: NoiseEstimatorConfig = field(default_factory=NoiseEstimatorConfig)
    step: float = 4.0


class ConditionedUNet(nn.Module):
    """Denoises photos, told how strong the noise is and how far neighbours share it.

    Beside the photo and the mask it sees the standard deviation at each pixel (as FFDNet does;
    Zhang et al., TIP 2018), the difference from the local mean in standard deviations, and the
    noise's spectrum as constant planes. The correction of visible pixels is compressed beyond a few
    standard deviations, so that little noise can only mean little change.

    Attributes:
        multiple, padding, reach, runs_in_bfloat16: see `masked.Network`.
    """

    padding: Padding = "reflection"
    runs_in_bfloat16 = True

    def __init__(self, config: ConditionedUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = CompactUNet(config.unet)
        self.estimator = NoiseEstimator(config.estimator).requires_grad_(False)
        self.multiple = self.unet.multiple
        self.reach = self.unet.reach + 3 * _MEAN  # the mean looks two squares away

    def forward(self, x: Tensor, noise: PhotoNoise) -> Tensor:
        """Denoise photos.

        Args:
            x: (B, 4, H, W) float32: the photo in [0, 1], masked pixels filled, and the mask, 1
                where masked; sides multiples of `self.multiple`.
            noise: of B photos, or of one for all.

        Returns:
            (B, 3, H, W) float32, not clamped.
        """
        photo, masked = x[:, :3], x[:, 3:]
        sigma, *inputs = self._inputs(x, noise)
        residual = self.unet.residual(inputs.pop())  # freed within, before most of the work
        limit = self.config.step * sigma
        limited = limit * asinh(residual / limit)
        if not torch.is_grad_enabled() and not masked.any():
            return limited.add_(photo)
        return photo + torch.where(masked > 0, residual, limited)

    def _inputs(self, x: Tensor, noise: PhotoNoise) -> tuple[Tensor, Tensor]:
        """Return the noise level, (B, 1 or 3, H, W), and what the U-Net sees, (B, INPUTS, H, W).

        Of three equal channels with the same noise, as of counts, one is worked on.
        """
        different = 1 if _is_grey(x, noise) else CHANNELS
        photo = x[:, :different]
        with torch.autocast(x.device.type, enabled=False):
            mean = local_mean(photo, different)
            noise = PhotoNoise(
                log_sigma=noise.log_sigma[:, :different].expand(len(x), -1, -1),
                spectrum=noise.spectrum.expand(len(x), -1),
            )
            log_sigma = noise.log_sigma_at(mean)
            sigma = log_sigma.exp() / 255
            detail = (photo - mean).div_(sigma)
            del mean
            detail = asinh(detail)
        planes = noise.spectrum[:, :, None, None].expand(-1, -1, *x.shape[2:])
        detail, log_sigma = (
            part.expand(-1, CHANNELS, -1, -1) for part in (detail, log_sigma.div_(2))
        )
        return sigma, _stacked([x, detail, log_sigma, planes])


def _is_grey(x: Tensor, noise: PhotoNoise) -> bool:
    """Return whether the three channels of photos, (B, 4, H, W), and their noise are the same.

    An exported graph serves all photos, so there they are not.
    """
    return not torch.onnx.is_in_onnx_export() and all(
        torch.equal(of[:, :1].expand(-1, CHANNELS - 1, *of.shape[2:]), of[:, 1:CHANNELS])
        for of in (noise.log_sigma, x)
    )


def _stacked(parts: list[Tensor]) -> Tensor:
    """Stack channels, channels last; under autocast at once in the type that it computes in."""
    device = parts[0].device.type
    if torch.is_grad_enabled() or not torch.is_autocast_enabled(device):
        return torch.cat(parts, 1).contiguous(memory_format=torch.channels_last)
    channels = [part.shape[1] for part in parts]
    stacked = torch.empty(
        (len(parts[0]), sum(channels), *parts[0].shape[2:]), dtype=torch.get_autocast_dtype(device),
        device=parts[0].device, memory_format=torch.channels_last,
    )  # fmt: skip
    for place, part in zip(torch.split(stacked, channels, 1), parts, strict=True):
        place.copy_(part)
    return stacked


def local_mean(x: Tensor, channels: int = CHANNELS) -> Tensor:
    """Smooth (B, C, H, W) float32, sides multiples of 4, by interpolating means of squares."""
    means = F.avg_pool2d(x, _MEAN)
    taps = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = torch.outer(taps, taps).expand(channels, 1, 3, 3)
    means = F.conv2d(F.pad(means, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)
    return F.interpolate(means, scale_factor=_MEAN, mode="bilinear", align_corners=False)
