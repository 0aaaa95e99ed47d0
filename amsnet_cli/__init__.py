"""Denoise real photos by learning from noisy photos alone.

The Python interface is small, and loads PyTorch only when something of it is used:

    from pathlib import Path
    import amsnet_cli as amsnet

    model = amsnet.load_model(amsnet.find_weights(None))
    photo = amsnet.read_photo(Path("photo.png"))
    amsnet.write_photo(amsnet.denoise(photo, model), Path("clean.png"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from amsnet_cli.errors import AmsnetError
    from amsnet_cli.fitting.fit import fit
    from amsnet_cli.fitting.options import FitOptions
    from amsnet_cli.inference.denoise import DenoiseOptions, denoise
    from amsnet_cli.model import Model, load_model, save_model
    from amsnet_cli.photos.formats.raw import RawOptions
    from amsnet_cli.photos.photo import Photo
    from amsnet_cli.photos.read import read_photo
    from amsnet_cli.photos.write import write_photo
    from amsnet_cli.research.evaluation import psnr, ssim
    from amsnet_cli.weights.store import find_weights

_HOMES = {
    "AmsnetError": "errors",
    "DenoiseOptions": "inference.denoise",
    "FitOptions": "fitting.options",
    "Model": "model",
    "Photo": "photos.photo",
    "RawOptions": "photos.formats.raw",
    "denoise": "inference.denoise",
    "find_weights": "weights.store",
    "fit": "fitting.fit",
    "load_model": "model",
    "psnr": "research.evaluation",
    "read_photo": "photos.read",
    "save_model": "model",
    "ssim": "research.evaluation",
    "write_photo": "photos.write",
}

__all__ = [
    "AmsnetError",
    "DenoiseOptions",
    "FitOptions",
    "Model",
    "Photo",
    "RawOptions",
    "denoise",
    "find_weights",
    "fit",
    "load_model",
    "psnr",
    "read_photo",
    "save_model",
    "ssim",
    "write_photo",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
