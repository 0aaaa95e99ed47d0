"""Several GPUs share a batch: a process for each. The CPU stands for both of two GPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from amsnet_cli.device import choose_devices
from amsnet_cli.errors import DeviceError
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo

REPOSITORY = Path(__file__).parents[1]

TWO_GPUS = """
import os
import torch
from amsnet_cli import device
device_of, torch.cuda.device_count = device.choose_device, lambda: 2
def choose_device(name):
    if name not in ("cuda:0", "cuda:1"):
        return device_of(name)
    with open(os.path.join(os.environ["SEEN"], name[-1]), "a") as file:
        file.write(f"{os.getpid()}\\n")
    return torch.device("cpu")
device.choose_device = choose_device
"""
"""Runs as `sitecustomize` in the command and in its processes, and notes who takes which GPU."""


@pytest.fixture
def card(tmp_path: Path, noisy_crop: np.ndarray) -> Path:
    (tmp_path / "card").mkdir()
    for i in range(8):
        crop = np.ascontiguousarray(noisy_crop[: 60 + i])
        write_photo(Photo(pixels=crop), tmp_path / "card" / f"{i}.png")
    return tmp_path / "card"


def start(folder: Path, *arguments: object, tell: bool = False) -> subprocess.Popen[str]:
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(TWO_GPUS)
    return subprocess.Popen(
        [sys.executable, "-m", "amsnet_cli", "denoise", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": f"{folder / 'site'}{os.pathsep}{REPOSITORY}",
             "SEEN": str(folder / "site"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def seen(folder: Path) -> dict[str, list[int]]:
    """Processes that took each GPU."""
    files = [path for path in (folder / "site").iterdir() if path.suffix == ""]
    return {path.name: list(map(int, path.read_text().split())) for path in files if path.is_file()}


def results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0,1"])
def test_each_gpu_has_a_process_and_the_bytes_are_those_of_one(
    amsnet, card, tiny_model, tmp_path, device
):
    pytest.importorskip("distributed", reason="needs pip install 'amsnet[cluster]'")
    alone = amsnet("denoise", card, "-o", tmp_path / "alone", "-w", tiny_model, "--device", "cpu")
    assert alone.exit_code == 0, alone.stderr
    run = start(
        tmp_path, card, "-o", tmp_path / "out", "-w", tiny_model, "--device", device,
        "--repeats", "40",
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while run.poll() is None and time.monotonic() < deadline:
        first = seen(tmp_path)
        if len(first) == 2 and results(tmp_path / "out"):
            break
        time.sleep(0.05)
    if device == "cuda":  # One dies; another takes its place, and no photo is lost.
        psutil.Process(first["1"][0]).send_signal(signal.SIGKILL)
    _, said = run.communicate(timeout=300)
    assert run.returncode == 0, said
    assert set(first) == {"0", "1"} and first["0"] != first["1"]
    assert "8 photos denoised" in said
    again = start(
        tmp_path, card, "-o", tmp_path / "plain", "-w", tiny_model, "--device", "cuda:1,0"
    )
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert results(tmp_path / "plain") == results(tmp_path / "alone")


@pytest.mark.slow
def test_one_photo_needs_one_gpu(card, tiny_model, tmp_path):
    run = start(tmp_path, card / "0.png", "-o", tmp_path / "o.png", "-w", tiny_model,
                "--device", "cuda:1")  # fmt: skip
    _, said = run.communicate(timeout=300)
    assert run.returncode == 0 and list(seen(tmp_path)) == ["1"], said


def test_names_of_several_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    everything = ["cuda:0", "cuda:1", "cuda:2"]
    assert choose_devices("auto") == choose_devices("cuda") == everything
    assert choose_devices("cuda:2,0,2") == ["cuda:2", "cuda:0"]
    for wrong in ("cuda:0,3", "cuda:0,", "cuda:,", "cpu:0,1", "cuda:0,x", "cuda:²,0"):
        with pytest.raises(DeviceError, match="no device"):
            choose_devices(wrong)


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (["denoise", "-o", "out"], "no device cuda:0 here"),
        (["fit", "-o", "m.safetensors"], "torchrun"),
        (["tune", "-o", "t.html"], "only denoise uses several"),
    ],
)
def test_gpus_that_are_not_there_are_one_line(amsnet, card, tmp_path, command, hint):
    name, *options = command
    result = amsnet(name, card / "0.png" if name == "tune" else card, *options[:-1],
                    tmp_path / options[-1], "--device", "cuda:0,1")  # fmt: skip
    assert result.exit_code == 5, result.stderr
    assert hint in result.stderr and len(result.stderr.splitlines()) == 1
