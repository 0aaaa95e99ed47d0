"""The denoising networks, one file each, and the wrapper that makes them mask-aware."""

from amsnet_cli.core.networks.compact import LIGHT, CompactUNet, CompactUNetConfig
from amsnet_cli.core.networks.conditioned import ConditionedUNet, ConditionedUNetConfig
from amsnet_cli.core.networks.deamnet import DeamNet
from amsnet_cli.core.networks.dncnn import DnCNN
from amsnet_cli.core.networks.make import NetworkShape, make_network
from amsnet_cli.core.networks.masked import MaskedNetwork, Network
from amsnet_cli.core.networks.nafnet import NAFNet
from amsnet_cli.core.networks.restormer import Restormer
from amsnet_cli.core.networks.unet import UNet

__all__ = [
    "LIGHT",
    "CompactUNet",
    "CompactUNetConfig",
    "ConditionedUNet",
    "ConditionedUNetConfig",
    "DeamNet",
    "DnCNN",
    "MaskedNetwork",
    "NAFNet",
    "Network",
    "NetworkShape",
    "Restormer",
    "UNet",
    "make_network",
]
