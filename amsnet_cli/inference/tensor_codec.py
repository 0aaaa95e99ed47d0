"""What `photos.pixel_codec` does, for tensors on the device where the network runs.

Values cross to the device and back as they are stored: a byte a channel for most photos. Float
pictures and linear light are converted on the CPU, by the codec itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amsnet_cli.photos.pixel_codec import PixelCodec

_DTYPES = {np.dtype(np.uint8): torch.uint8, np.dtype(np.uint16): torch.uint16}

Stored = NDArray[Any] | Tensor
"""(h, w, C) as stored."""


def to_unit(codec: PixelCodec, stored: Stored, device: torch.device) -> Tensor:
    """Decode stored values.

    Args:
        codec: of the photo.
        stored: see `Stored`.
        device: of the result.

    Returns:
        (C, h, w) float32 as from `PixelCodec.decode`, contiguous.
    """
    if not _is_plain(codec):
        array = stored.cpu().numpy() if isinstance(stored, Tensor) else stored
        values = on_device(codec.decode(array), device)
    else:
        values = stored if isinstance(stored, Tensor) else on_device(stored, device)
        values = values.to(device)
    unit = values.permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
    if _is_plain(codec):
        unit.div_(np.iinfo(codec.dtype).max)
        if codec.high != 1:
            unit.div_(codec.high)
    return unit.contiguous()


def to_stored(codec: PixelCodec, unit: Tensor) -> Tensor:
    """Encode values for storing.

    Args:
        codec: of the photo.
        unit: (C, h, w) float32.

    Returns:
        (h, w, C) as from `PixelCodec.encode`; on the CPU if it was converted there.
    """
    if not _is_plain(codec):
        array = unit.permute(1, 2, 0).contiguous().cpu().numpy()
        return torch.from_numpy(codec.encode(array))
    largest = np.iinfo(codec.dtype).max
    values = unit * codec.high if codec.high != 1 else unit
    values = (values * largest).round_().clamp_(0, largest)
    dtype = dtype_of(codec)
    return values.permute(1, 2, 0).to(dtype, memory_format=torch.contiguous_format)


def on_device(stored: NDArray[Any], device: torch.device) -> Tensor:
    """Return an array as a tensor; on the CPU it shares the memory where it can."""
    return torch.from_numpy(np.require(stored, requirements=["C", "W"])).to(device)


def dtype_of(codec: PixelCodec) -> torch.dtype:
    """Return the tensor's equivalent of the type that values are stored in."""
    return _DTYPES.get(np.dtype(codec.dtype), torch.float32)


def converts_on(codec: PixelCodec, device: torch.device) -> torch.device:
    """Return where `to_stored` leaves the values of tensors of a device."""
    return device if _is_plain(codec) else torch.device("cpu")


def _is_plain(codec: PixelCodec) -> bool:
    """Whether stored values are integers from 0, and as light as networks see them."""
    return np.dtype(codec.dtype) in _DTYPES and not codec.linear and codec.low == 0
