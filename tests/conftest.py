from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import typer.main
import typer.testing
from hypothesis import settings
from typer.testing import CliRunner, Result

from amsnet_cli.cli.app import app
from amsnet_cli.core.networks import CompactUNetConfig
from amsnet_cli.core.networks.mosaic import MosaicNetwork, MosaicNetworkConfig
from amsnet_cli.fitting.mosaic_objective import MosaicObjective
from amsnet_cli.fitting.objectives import MaskedPrediction, NoiseAdaptation
from amsnet_cli.model import Inference, ModelConfig, build_network, save_model
from amsnet_cli.mosaic_model import MosaicModel
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.weights.store import weights_dir
from tests.faulty_server import Server, serving
from tests.published_weights import CONTENT, entry

# Typer builds all commands anew at each call of a test, which takes a tenth of a second.
typer.testing._get_command = functools.cache(typer.main.get_command)

settings.register_profile("amsnet", deadline=None, derandomize=True)
settings.load_profile("amsnet")

SHARED = Path(os.environ.get("AMSNET_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_configure(config: pytest.Config) -> None:
    """Let each process of pytest-xdist compute in one thread: more would fight over the cores."""
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-snapshots", action="store_true",
        help="write what users get now to tests/snapshots, see tests/test_snapshots.py",
    )  # fmt: skip


@pytest.fixture(scope="session")
def mosaic_model() -> MosaicModel:
    """A tiny model for mosaics, of random weights."""
    torch.manual_seed(0)
    shape = CompactUNetConfig(
        in_channels=7, out_channels=1, widths=(8, 8), blocks=(1, 1), unshuffle=2
    )
    network = MosaicNetwork(MosaicNetworkConfig(unet=shape))
    with torch.no_grad():
        network.unet.tail.weight.mul_(30)  # that there is something to see
    return MosaicModel(network=network.eval(), name="tiny")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a user folder of its own."""
    folder = tmp_path_factory.mktemp("home")
    for name in [n for n in os.environ if n.startswith("AMSNET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AMSNET_HOME", str(folder))
    return folder


@pytest.fixture
def amsnet():
    """Run the command line in this process."""

    def run(*args: object) -> Result:
        result = CliRunner().invoke(app, [str(a) for a in args])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def peak_memory(tmp_path: Path):
    """Run the command line in a process of its own, in `tmp_path`; returns its peak in bytes."""
    if sys.platform != "linux":
        pytest.skip("the peak of a process is told in other units here")
    # From yet another process, as the peak of a process's children only grows.
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )

    def run(*args: object) -> int:
        command = [sys.executable, "-c", code, sys.executable, "-m", "amsnet_cli", *map(str, args)]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        print(done.stderr)
        return int(done.stdout.split()[-1]) * 1024

    return run


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write entries into a weights manifest of one's own, and use it."""
    path = tmp_path / "manifest.json"
    monkeypatch.setenv("AMSNET_MANIFEST", str(path))

    def write(*entries: dict[str, object]) -> None:
        path.write_text(json.dumps({"schema": 2, "weights": entries}))

    return write


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(CONTENT) as server:
        yield server


@pytest.fixture
def far(publish, server) -> Path:
    """The entry `far` on the loopback server; where its file will be."""
    publish(entry(server.url()))
    return weights_dir() / "far.safetensors"


@pytest.fixture(scope="session")
def clean_crop() -> np.ndarray:
    """A CC0 picture, (160, 192, 3) uint8."""
    return np.ascontiguousarray(skimage.data.astronaut()[0:160, 140:332])


@pytest.fixture(scope="session")
def noisy_crop(clean_crop: np.ndarray) -> np.ndarray:
    """The same with white noise of sigma 25/255."""
    noise = np.random.default_rng(0).normal(0, 25, clean_crop.shape)
    return (clean_crop + noise).round().clip(0, 255).astype(np.uint8)


@pytest.fixture
def noisy_png(tmp_path: Path, noisy_crop: np.ndarray) -> Path:
    path = tmp_path / "noisy.png"
    write_photo(Photo(pixels=noisy_crop), path)
    return path


@pytest.fixture
def few_validation_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validate fits by fewer patches, which takes most of the time of a fit of few steps."""
    fewer = functools.partial(NoiseAdaptation, validation_patches=16)
    monkeypatch.setattr("amsnet_cli.fitting.photo_task.NoiseAdaptation", fewer)
    fewer = functools.partial(MaskedPrediction, validation_patches=6)
    monkeypatch.setattr("amsnet_cli.fitting.photo_task.MaskedPrediction", fewer)
    fewer = functools.partial(MosaicObjective, validation_patches=8)
    monkeypatch.setattr("amsnet_cli.fitting.mosaic_task.MosaicObjective", fewer)


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """A small untrained model that runs the multi-mask pass."""
    torch.manual_seed(0)
    config = ModelConfig(
        network=CompactUNetConfig(widths=(8, 8), blocks=(1, 1)),
        inference=Inference(passes="multi", n_masks=2, stride=2, repeats=1),
    )
    path = tmp_path / "tiny.safetensors"
    save_model(path, build_network(config), config)
    return path
