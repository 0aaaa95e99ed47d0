"""The widget of the napari plugin; napari makes its controls from the function's signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from amsnet_cli.api import denoise_array
from amsnet_cli.errors import AmsnetError, UsageError
from amsnet_cli.model import load_model

if TYPE_CHECKING:
    import napari.layers
    import napari.types


def denoise_layer(
    image: napari.layers.Image,
    automatic: bool = True,
    strength: float = 1.0,
    detail: float = 0.0,
    weights: str = "photo",
) -> list[napari.types.LayerDataTuple]:
    """Denoise an image layer; of a stack, each plane by itself.

    Args:
        image: grey or RGB, of any range; planes are its last two dimensions.
        automatic: strength auto: texture is restored and brightness corrected.
        strength: in [0, 1]; only looked at if not `automatic`.
        detail: fine detail to restore, in [0, 1].
        weights: their name, or a model file.

    Returns:
        A new layer beside it, which lies where it does; none after an error, which napari shows.
    """
    from napari.utils.notifications import show_error

    try:
        return [_denoised(image, None if automatic else strength, detail, weights)]
    except AmsnetError as error:  # Raised, it would reach the window as a traceback.
        show_error(str(error))
        return []


def _denoised(
    image: napari.layers.Image, strength: float | None, detail: float, weights: str
) -> napari.types.LayerDataTuple:
    if image.multiscale:
        raise UsageError(f"{image.name} has several scales", "choose an image with one")
    data = np.asarray(image.data)
    if image.rgb and data.shape[-1] == 4:
        colours, alpha = data[..., :3], data[..., 3:]
    else:
        colours, alpha = data, None
    model = load_model(weights or None)
    plane = 3 if image.rgb else 2
    clean = np.empty_like(colours)
    for index in np.ndindex(colours.shape[: colours.ndim - plane]):
        clean[index] = denoise_array(colours[index], strength, weights=model, detail=detail)
    if alpha is not None:
        clean = np.concatenate([clean, alpha], -1)
    settings: dict[str, Any] = {
        "name": f"{image.name} denoised", "rgb": image.rgb, "scale": image.scale,
        "translate": image.translate, "contrast_limits": image.contrast_limits,
    }  # fmt: skip
    if not image.rgb:
        settings["colormap"] = image.colormap.name
    return clean, settings, "image"
