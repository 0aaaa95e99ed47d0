"""The napari plugin: its manifest is valid, and its widget denoises layers, without a screen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

WIDGET = """
import numpy as np
from magicgui import magicgui
from napari.layers import Image
from napari.utils import notifications
import amsnet_cli.napari_widget as plugin

random = np.random.default_rng(0)
stack = random.normal(500, 40, (2, 40, 48)).astype(np.float32)
layer = Image(stack, name="cells", scale=(1, 2, 2), colormap="green")
widget = magicgui(plugin.denoise_layer)
assert [w.name for w in widget][:5] == ["image", "automatic", "strength", "detail", "weights"]
((clean, settings, kind),) = plugin.denoise_layer(layer, automatic=False, strength=0.9)
assert kind == "image" and settings["name"] == "cells denoised"
shown = Image(clean, **settings)
assert shown.data.shape == stack.shape and shown.colormap.name == "green"
assert list(shown.scale) == [1, 2, 2]
assert all(after.std() < 0.6 * before.std() for before, after in zip(stack, clean))
colours = random.integers(90, 160, (32, 40, 4)).astype(np.uint8)
((clean, settings, kind),) = plugin.denoise_layer(Image(colours, rgb=True))
assert np.array_equal(clean[..., 3], colours[..., 3]) and clean.dtype == np.uint8
assert clean[..., :3].std() < colours[..., :3].std()
shown = []
notifications.show_error = shown.append
assert plugin.denoise_layer(layer, weights="nonsense") == []
assert shown[0].startswith("no weights or fitted model named nonsense")
print("all well")
"""

WINDOW = """
import napari
import numpy as np
from qtpy.QtCore import QTimer
from amsnet_cli.api import denoise_array

noisy = np.random.default_rng(0).integers(90, 160, (48, 64, 3)).astype(np.uint8)
viewer = napari.Viewer()
viewer.add_image(noisy, name="noisy")
_, widget = viewer.window.add_plugin_dock_widget("amsnet", "Denoise")

def look():
    assert [layer.name for layer in viewer.layers] == ["noisy", "noisy denoised"]
    assert np.array_equal(viewer.layers[1].data, denoise_array(noisy))
    shown = viewer.screenshot(canvas_only=False, flash=False)
    print("all well", shown.std() > 1)
    viewer.close()

QTimer.singleShot(500, widget.call_button.native.click)
QTimer.singleShot(4000, look)
napari.run()
"""


def test_the_manifest_is_valid():
    # Within another process, as importing npe2 warns, which is an error in tests.
    code = "import sys\nfrom npe2 import PluginManifest\n" \
        "m = PluginManifest.from_file(sys.argv[1])\nm.validate_imports()\n" \
        "(w,) = m.contributions.widgets\nprint(m.name, w.command, w.autogenerate)"  # fmt: skip
    done = run(code, ROOT / "amsnet_cli" / "napari.yaml")
    assert done.stdout.split() == ["amsnet", "amsnet.denoise", "True"], done.stderr


@pytest.mark.slow
def test_the_widget_denoises_stacks_and_colours():
    done = run(WIDGET, needs="napari")
    assert done.stdout.strip() == "all well", done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="xvfb-run is not installed")
def test_a_layer_is_denoised_in_the_window():
    done = run(WINDOW, needs="napari, PyQt6", before=["xvfb-run", "-a"])
    assert done.stdout.strip() == "all well True", done.stderr


def run(
    code: str, *arguments: object, needs: str = "npe2", before: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run code within another process, behind the command `before`.

    Args:
        code: Python.
        arguments: of it.
        needs: what it imports; without them the test is skipped.
        before: such as `xvfb-run`; without it nothing is shown.
    """
    program = [*before, sys.executable, "-c", code, *map(str, arguments)]
    environment = {"PYTHONPATH": str(ROOT), "HOME": "/nowhere", "PATH": os.environ["PATH"]}
    environment["QT_QPA_PLATFORM"] = "xcb" if before else "offscreen"
    probe = [sys.executable, "-c", f"import {needs}"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip(f"{needs} is not installed")
    return subprocess.run(program, capture_output=True, text=True, check=False, env=environment)
