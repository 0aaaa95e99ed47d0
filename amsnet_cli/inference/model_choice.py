"""Which model denoises a photo: the one asked for, or with auto the one fitted to its camera."""

from __future__ import annotations

from pathlib import Path

from amsnet_cli.model import Model, load_model
from amsnet_cli.weights.header import camera_and_speeds, cameras_of, read_header
from amsnet_cli.weights.store import AUTO, find_weights, fitted_models, model_for


class ModelChooser:
    """Chooses the model of each photo and loads each model once.

    Attributes:
        name: of the weights, as asked for.

    Args:
        weights: a name, a file or auto; None for the bundled weights.

    Raises:
        WeightsError: there are no such weights, or they are damaged.
    """

    def __init__(self, weights: str | Path | None) -> None:
        self._auto = weights == AUTO
        if isinstance(weights, Path):
            self._default = weights
        else:
            self._default = find_weights(None if self._auto else weights)
        self._models: dict[Path, Model] = {}
        self.name = weights if isinstance(weights, str) else self._default.stem
        if self._auto:
            fitted_models()  # An unreadable folder is reported before any photo is read.
        self._load(self._default)

    def choose(self, camera: str | None, iso: int | None) -> tuple[Model, str]:
        """Return the model of a photo and why it was chosen, if there was a choice.

        Args:
            camera: of the photo, None if unknown.
            iso: of the photo, None if unknown.

        Raises:
            WeightsError: the model is damaged.
        """
        if not self._auto:
            return self._load(self._default), ""
        path, reason = fitted_to(camera, iso)
        return self._load(path or self._default), reason

    def _load(self, path: Path) -> Model:
        if path not in self._models:
            self._models[path] = load_model(path, path.stem if self._auto else self.name)
        return self._models[path]


def fitted_to(
    camera: str | None, iso: int | None, *, mosaics: bool = False
) -> tuple[Path | None, str]:
    """Return the model fitted to a photo's camera, None for none, and the reason.

    Args:
        camera: of the photo, None if unknown.
        iso: of the photo, None if unknown.
        mosaics: whether the photo is not developed.
    """
    if camera is None:
        return None, "the photo names no camera"
    path = model_for(camera, iso, mosaics=mosaics)
    if path is None:
        return None, f"no model is fitted to {camera_and_speeds(camera, [iso] if iso else [])}"
    speeds = cameras_of(read_header(path)).get(camera, [])
    return path, f"fitted to {camera_and_speeds(camera, speeds)}"
