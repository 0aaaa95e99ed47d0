"""Packages of models that darktable 5.6 installs: Preferences, AI, import from file."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

from amsnet_cli import __version__
from amsnet_cli.errors import UsageError
from amsnet_cli.exporting.graph import LEFT_OUT, export_graph
from amsnet_cli.model import Model

SUFFIX = ".dtmodel"
SIDE = 768
"""Side in pixels of the tiles that darktable denoises."""
OVERLAP = 64
"""Pixels that it cuts off each side of a tile."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip file can hold, so that the same model gives the same bytes."""


def check_id(path: Path) -> str:
    """Return the model's id in darktable, which is the stem of its package.

    Raises:
        UsageError: it is no id.
    """
    if path.suffix != SUFFIX or not _ID.fullmatch(path.stem):
        raise UsageError(
            f"{path}: a package's name is letters, digits, -, _ and ., and {SUFFIX}",
            f"name it for example my_camera{SUFFIX}",
        )
    return path.stem


def default_name(model: str) -> str:
    """Return a file name for the package of a model: amsnet-NAME.dtmodel."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).stem).strip("-.")
    return f"amsnet-{plain or 'model'}{SUFFIX}"


def package(model: Model, model_id: str, about: dict[str, str]) -> bytes:
    """Return a package: a zip of one folder with config.json and model.onnx.

    Args:
        model: on the CPU.
        model_id: as from `check_id`.
        about: what is known of the model: title, scope, author, licence, training_data.

    Raises:
        UsageError: see `export_graph`.
        WeightsError: likewise.
    """
    graph = export_graph(model, SIDE)
    card = {
        "long_description": about.get("title", ""),
        "scope": about.get("scope", ""),
        "author": about.get("author", ""),
        "source": f"amsnet {__version__}, model {model.name}",
        "license": about.get("licence", ""),
        "training_data": about.get("training_data", ""),
        "notes": f"Not in this model, unlike in amsnet denoise: {'; '.join(LEFT_OUT)}.",
    }
    config = {
        "id": model_id,
        "name": f"amsnet {Path(model.name).stem}",
        "description": about.get("title") or "A model of amsnet",
        "task": "denoise",
        "backend": "onnx",
        "version": ".".join(__version__.split(".")[:2]),
        "model_card": {key: text for key, text in card.items() if text},
        "attributes": {"input_sizes": [SIDE]},
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (
            ("config.json", json.dumps(config, indent=2).encode()),
            ("model.onnx", graph.SerializeToString()),
        ):
            entry = zipfile.ZipInfo(f"{model_id}/{name}", _FIRST_DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return file.getvalue()
