"""`fit --preset paper`: the paper's training, its variants, and several processes."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from amsnet_cli.core.losses import prior_smoothing
from amsnet_cli.core.networks import LIGHT, Restormer
from amsnet_cli.errors import PhotoError, UsageError
from amsnet_cli.fitting.distributed import DistributedContext
from amsnet_cli.fitting.fit import fit
from amsnet_cli.fitting.images import MAX_IMAGES
from amsnet_cli.fitting.options import FitOptions
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.model import Inference, Model, build_network, load_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo

pytestmark = pytest.mark.usefixtures("few_validation_patches")

PAPER = FitOptions(preset="paper", steps=3, patch_size=40, batch=2)


@pytest.fixture
def folder(tmp_path: Path, noisy_crop: np.ndarray) -> Path:
    folder = tmp_path / "shots"
    folder.mkdir()
    write_photo(Photo(pixels=noisy_crop), folder / "a.png")
    return folder


@pytest.fixture
def start(tmp_path: Path, folder: Path) -> Model:
    """Fitted for some steps by the paper's preset."""
    options = dataclasses.replace(PAPER, steps=8, learning_rate=3e-4)
    return load_model(fit(folder, tmp_path / "start.safetensors", options).model)


def test_a_fresh_model_runs_as_in_the_paper(tmp_path, folder):
    options = dataclasses.replace(PAPER, refine=0.16)
    model = load_model(fit(folder, tmp_path / "m.safetensors", options).model)
    assert model.config.fill == "zeros" and not model.config.mask_channel
    assert model.config.network == dataclasses.replace(LIGHT, in_channels=3)
    assert model.config.inference == Inference(
        passes="multi", n_masks=2, stride=2, repeats=1, refine=0.16, refine_repeats=8
    )


def test_all_photos_of_a_dataset_are_seen(tmp_path, noisy_crop):
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(MAX_IMAGES + 9):
        write_photo(Photo(pixels=noisy_crop[:8, :8]), folder / f"{i}.png")
    options = dataclasses.replace(PAPER, steps=1)
    assert fit(folder, tmp_path / "m.safetensors", options).photos == MAX_IMAGES + 9


def test_any_share_and_strides_besides(tmp_path, folder):
    options = dataclasses.replace(PAPER, mask_ratio=0.25, pd_stride=4, pd_stride_test=3)
    model = load_model(fit(folder, tmp_path / "m.safetensors", options).model)
    assert model.config.inference.n_masks == 4 and model.config.inference.stride == 3


def test_rate_and_batch_are_the_paper_s(tmp_path, folder, monkeypatch):
    """4 patches a step, 2 for Restormer; AdamW at 1e-4 without weight decay, falling to 0."""
    rates, counts = [], []
    step = torch.optim.AdamW.step

    def spy(self):
        [group] = self.param_groups
        assert group["weight_decay"] == 0 and group["betas"] == (0.9, 0.999)
        rates.append(group["lr"])
        return step(self)

    def forward(self, x):
        counts.append(len(x) // 25)
        return x * self.output.weight.mean()

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    monkeypatch.setattr(Restormer, "forward", forward)
    options = dataclasses.replace(PAPER, batch=None, steps=4, network="restormer")
    fit(folder, tmp_path / "m.safetensors", options)
    assert rates == pytest.approx([1e-4 * (1 + np.cos(np.pi * k / 4)) / 2 for k in range(4)])
    assert set(counts) == {1, 2}, "held-out patches come one by one"


def test_only_photos_of_a_name(tmp_path, folder, noisy_crop):
    for name in ("0001_NOISY_SRGB_010.png", "0001_GT_SRGB_010.png"):
        write_photo(Photo(pixels=noisy_crop), folder / name)
    options = dataclasses.replace(PAPER, steps=1, include="*NOISY*")
    assert fit(folder, tmp_path / "m.safetensors", options).photos == 1
    with pytest.raises(PhotoError, match=r"no photo matches \*noisy\*"):
        fit(folder, tmp_path / "n.safetensors", dataclasses.replace(options, include="*noisy*"))


@pytest.mark.parametrize("network", ["dncnn", "deamnet"])
def test_the_paper_s_networks_train_and_denoise(tmp_path, folder, noisy_crop, network):
    options = dataclasses.replace(PAPER, network=network, steps=2, pd_stride=2, patch_size=32)
    model = load_model(fit(folder, tmp_path / "m.safetensors", options).model)
    assert model.config.network == network
    torch.manual_seed(0)
    fresh = build_network(model.config).state_dict()
    trained = model.network.state_dict()
    idle = ("conv_dila", "cat1.", "num_batches")
    for key, tensor in trained.items():
        # Running statistics of batch normalisation are kept as well.
        assert any(word in key for word in idle) or not torch.equal(tensor, fresh[key]), key
    after = denoise(Photo(pixels=noisy_crop[:40, :50]), model).photo.pixels
    assert after.shape == (40, 50, 3)


class TestSmoothing:
    def test_lowers_the_total_variation_of_the_joined_picture(
        self, tmp_path, folder, start, noisy_crop, monkeypatch
    ):
        """At a weight that shows in a few steps."""
        strong = partial(prior_smoothing, weight=10.0)
        monkeypatch.setattr("amsnet_cli.fitting.objectives.prior_smoothing", strong)
        options = dataclasses.replace(PAPER, steps=8, learning_rate=1e-3, smooth=True)
        smoothed = load_model(fit(folder, tmp_path / "p.safetensors", options, start=start).model)
        assert smoothed.config.provenance["smooth"]
        assert smoothed.config.inference == start.config.inference

        def variation(model: Model) -> float:
            bare = DenoiseOptions(strength=1)
            after = denoise(Photo(pixels=noisy_crop), model, bare).photo.pixels.astype(float)
            return np.abs(np.diff(after, axis=0)).mean() + np.abs(np.diff(after, axis=1)).mean()

        assert variation(smoothed) < 0.8 * variation(start)

    def test_needs_a_model(self, tmp_path, folder):
        with pytest.raises(UsageError, match="fine-tunes a fitted model"):
            fit(folder, tmp_path / "m.safetensors", dataclasses.replace(PAPER, smooth=True))


def test_an_interrupted_smoothing_resumes_to_the_same_bytes(tmp_path, folder, start):
    options = dataclasses.replace(PAPER, smooth=True)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    fit(folder, whole, options, start=start)
    asked = iter([False, True])
    assert fit(folder, parts, options, start=start, stopped=lambda: next(asked)).interrupted
    fit(folder, parts, options, start=start, resume=True)
    assert parts.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"preset": "masked", "network": "unet"},
            "unet is trained from scratch",
        ),
        ({"batch": 0}, "must be at least 1"),
        ({"pd_stride_test": 0}, "must be at least 1"),
    ],
)
def test_options_that_do_not_fit(tmp_path, folder, change, says):
    with pytest.raises(UsageError, match=says):
        fit(folder, tmp_path / "m.safetensors", dataclasses.replace(PAPER, **change))


def test_a_network_is_not_changed_under_weights(tmp_path, folder, start):
    options = dataclasses.replace(PAPER, network="unet")
    with pytest.raises(UsageError, match="no --weights"):
        fit(folder, tmp_path / "m.safetensors", options, start=start)


def test_a_batch_must_be_shared_evenly(tmp_path, folder):
    with pytest.raises(UsageError, match="3 processes cannot share a batch of 2"):
        fit(folder, tmp_path / "m.safetensors", PAPER, distributed=DistributedContext(0, 3))


@dataclasses.dataclass
class Node:
    """What a command needs to run on a machine: what it begins with, address, network device."""

    prefix: list[str]
    address: str
    device: str


@pytest.fixture
def two_nodes() -> Iterator[list[Node]]:
    """Two network namespaces with a cable between them; twice this machine where that fails."""
    names = [f"amsnet-{os.getpid()}-{i}" for i in range(2)]
    addresses = ["10.0.0.1", "10.0.0.2"]

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", names[1])
        for name, address in zip(names, addresses, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
        yield [
            Node(["ip", "netns", "exec", name], address, "eth0")
            for name, address in zip(names, addresses, strict=True)
        ]
    except (OSError, subprocess.CalledProcessError):  # Not Linux, or not root.
        yield [Node([], "127.0.0.1", "lo")] * 2
    finally:
        for name in names:
            with suppress(OSError):
                subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.mark.slow
class TestProcesses:
    """Real processes, as torchrun starts them."""

    CALL = ("fit", "--preset", "paper", "--network", "compact", "--patch-size", "40",
            "--precision", "float32")  # fmt: skip

    def start(self, count: int, *args: object) -> subprocess.Popen[str]:
        alone = [sys.executable, "-m", "amsnet_cli"]
        several = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--nproc-per-node", str(count), "-m", "amsnet_cli",
        ]  # fmt: skip
        return subprocess.Popen(
            [*(alone if count == 1 else several), *self.CALL, *map(str, args)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]),
                 "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def start_node(
        self, node: Node, meeting: str, *args: object, is_host: bool
    ) -> subprocess.Popen[str]:
        torchrun = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
            "--max-restarts", "3", "--rdzv-backend", "c10d", "--rdzv-id", "fit",
            "--rdzv-endpoint", meeting, "--rdzv-conf", f"is_host={is_host}",
            "--local-addr", node.address, "-m", "amsnet_cli",
        ]  # fmt: skip
        return subprocess.Popen(
            [*node.prefix, *torchrun, *self.CALL, *map(str, args)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]),
                 "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": node.device},
        )  # fmt: skip

    def test_a_node_that_is_killed_and_restarted_changes_no_byte(self, tmp_path, folder, two_nodes):
        """Two nodes that meet over TCP, where possible each in a network of its own."""
        outputs = [tmp_path / f"{name}.safetensors" for name in ("undisturbed", "disturbed")]
        for output in outputs:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            call = [folder, "-o", output, "--steps", 400]
            meeting = f"{two_nodes[0].address}:{port}"
            nodes = [
                self.start_node(node, meeting, *call, is_host=number == 0)
                for number, node in enumerate(two_nodes)
            ]
            if output is outputs[1]:
                while not output.with_name(f"{output.name}.resume").exists():
                    assert nodes[0].poll() is None, nodes[0].communicate()[0]
                    time.sleep(0.1)
                assert not output.exists(), "it must not be at its end"
                (victim,) = psutil.Process(nodes[1].pid).children()
                victim.kill()
            said = [node.communicate(timeout=900)[0] for node in nodes]
            assert [node.returncode for node in nodes] == [0, 0], said
        undisturbed, disturbed = map(self.weights, outputs)
        assert all(torch.equal(undisturbed[name], disturbed[name]) for name in undisturbed)

    def weights(self, path: Path) -> dict[str, torch.Tensor]:
        return load_model(path).network.state_dict()

    def test_two_end_with_the_weights_of_one(self, tmp_path, folder):
        """To 1e-6 after 10 steps: sums are taken in another order, nothing else differs."""
        for count in (1, 2):
            output = tmp_path / f"{count}.safetensors"
            with self.start(count, folder, "-o", output, "--steps", 10) as run:
                stdout, stderr = run.communicate(timeout=240)
            assert run.returncode == 0, stderr
            assert stdout == f"{output}\n", "only the first process prints"
            assert stderr.count("10 steps on 1 photos") == 1
        one, two = (self.weights(tmp_path / f"{count}.safetensors") for count in (1, 2))
        difference = max(float((one[k] - two[k]).abs().max()) for k in one)
        print(f"largest difference of a weight: {difference:.1e}")
        assert difference < 1e-6

    def test_ctrl_c_saves_once_and_resume_goes_on(self, tmp_path, folder):
        output = tmp_path / "m.safetensors"
        with self.start(2, folder, "-o", output, "--steps", 100_000) as run:
            while not (line := run.stderr.readline()).startswith("step"):
                assert line, "ended before the first step"
            run.send_signal(signal.SIGINT)
            _, stderr = run.communicate(timeout=240)
        assert run.returncode and "the model is saved. Resume with: amsnet fit" in stderr
        state = torch.load(f"{output}.resume", weights_only=True)
        steps = state["trainer"]["steps"] + 2
        with self.start(2, folder, "-o", output, "--steps", steps, "--resume") as run:
            _, stderr = run.communicate(timeout=240)
        assert run.returncode == 0, stderr
        assert f"{steps} steps on 1 photos" in stderr
        assert not output.with_name("m.safetensors.resume").exists()
        assert load_model(output).config.provenance["steps"] == steps
