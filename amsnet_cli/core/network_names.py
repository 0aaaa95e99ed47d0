"""Names of the networks. They are listed only here; importing them loads no PyTorch."""

from __future__ import annotations

from typing import Literal

PaperNetwork = Literal["restormer", "deamnet", "nafnet", "unet", "dncnn"]
"""The denoisers that the AMSNet paper trains."""
NetworkName = Literal["compact", PaperNetwork]
"""Those, and the network of the bundled weights."""
