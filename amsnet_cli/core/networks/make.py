"""Make a network by its name or configuration.

To add a network, write a module with its class, add its name to `core/network_names.py` and its
class to `_CLASSES` here.
"""

from __future__ import annotations

from amsnet_cli.core.network_names import PaperNetwork
from amsnet_cli.core.networks.compact import CompactUNet, CompactUNetConfig
from amsnet_cli.core.networks.conditioned import ConditionedUNet, ConditionedUNetConfig
from amsnet_cli.core.networks.deamnet import DeamNet
from amsnet_cli.core.networks.dncnn import DnCNN
from amsnet_cli.core.networks.masked import Network
from amsnet_cli.core.networks.nafnet import NAFNet
from amsnet_cli.core.networks.restormer import Restormer
from amsnet_cli.core.networks.unet import UNet

_CLASSES: dict[PaperNetwork, type[Network]] = {
    "restormer": Restormer,
    "deamnet": DeamNet,
    "nafnet": NAFNet,
    "unet": UNet,
    "dncnn": DnCNN,
}


NetworkShape = CompactUNetConfig | ConditionedUNetConfig | PaperNetwork
"""What tells which network to make."""


def make_network(network: NetworkShape) -> Network:
    """Make a network with fresh weights, drawn from torch's global generator."""
    if isinstance(network, CompactUNetConfig):
        return CompactUNet(network)
    if isinstance(network, ConditionedUNetConfig):
        return ConditionedUNet(network)
    return _CLASSES[network]()
