"""Denoise real photos by learning from noisy photos alone.

    import amsnet_cli as amsnet

    amsnet.denoise("a.jpg", "b.jpg")

docs/api.md documents the Python interface. PyTorch is imported only when something needs it.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from amsnet_cli.api import denoise, denoise_array, fit
    from amsnet_cli.errors import AmsnetError
    from amsnet_cli.fitting.fit import FitResult
    from amsnet_cli.fitting.options import FitOptions
    from amsnet_cli.inference.denoise import Denoised, DenoiseOptions
    from amsnet_cli.inference.stack_noise import Detector
    from amsnet_cli.model import Model, load_model, save_model
    from amsnet_cli.photos.formats.raw import RawOptions
    from amsnet_cli.photos.photo import Photo
    from amsnet_cli.photos.read import read_photo
    from amsnet_cli.photos.write import write_photo
    from amsnet_cli.research.evaluation import psnr, ssim
    from amsnet_cli.weights.store import find_weights

if sys.platform == "darwin":
    # What Apple's GPUs cannot compute runs on the CPU, with a warning; read when torch is imported.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

_MODULES = {
    "AmsnetError": "errors",
    "DenoiseOptions": "inference.denoise",
    "Denoised": "inference.denoise",
    "Detector": "inference.stack_noise",
    "FitOptions": "fitting.options",
    "FitResult": "fitting.fit",
    "Model": "model",
    "Photo": "photos.photo",
    "RawOptions": "photos.formats.raw",
    "denoise": "api",
    "denoise_array": "api",
    "find_weights": "weights.store",
    "fit": "api",
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
    "Denoised",
    "Detector",
    "FitOptions",
    "FitResult",
    "Model",
    "Photo",
    "RawOptions",
    "denoise",
    "denoise_array",
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
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
