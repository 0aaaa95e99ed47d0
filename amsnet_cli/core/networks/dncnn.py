"""DnCNN: "Beyond a Gaussian Denoiser", TIP 2017."""

from __future__ import annotations

from torch import Tensor, nn

from amsnet_cli.core.pixel_shuffle import Padding


class DnCNN(nn.Module):
    """17 convolutions of 3x3 that predict the noise (Zhang et al., arXiv 1608.03981).

    The state dict has the keys of the AMSNet authors' code; they published no weights for it.

    Attributes:
        multiple, padding, reach, runs_in_bfloat16: see `Network`.
    """

    multiple = 1
    padding: Padding = "reflection"
    reach: int | None = 17
    runs_in_bfloat16 = True

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(15):
            layers += [
                nn.Conv2d(64, 64, 3, padding=1),
                nn.BatchNorm2d(64, eps=1e-4, momentum=0.9),
                nn.ReLU(inplace=True),
            ]
        self.model = nn.Sequential(*layers, nn.Conv2d(64, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Denoise a batch of images.

        Args:
            x: (B, 3, H, W) float32 in [0, 1], any size.

        Returns:
            (B, 3, H, W) float32, not clamped.
        """
        noise: Tensor = self.model(x)
        return x - noise
