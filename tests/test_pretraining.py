"""Pretraining resumes where it stopped; networks trained at once do not disturb each other."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import skimage.io
import torch

pytest.importorskip("cv2", reason="comes with the extra [training]")

from amsnet_cli.core.multi_mask import single_pass
from amsnet_cli.core.networks import LIGHT, ConditionedUNet, ConditionedUNetConfig, MaskedNetwork
from amsnet_cli.core.networks.conditioned import INPUTS
from amsnet_cli.core.photo_noise import PhotoNoise
from amsnet_cli.model import ModelConfig, build_network, load_model
from amsnet_cli.weights.store import find_weights
from training import conditioned, conditioned_patches, pretrain
from training.patches import DistilledPatches, ReplayBuffer, self_ensemble

SMALL = json.dumps({"widths": [8, 16], "blocks": [1, 1]})
UNSHUFFLED = json.dumps({"widths": [16, 32], "blocks": [1, 1], "unshuffle": 2})


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    for name in ("astronaut", "coffee"):
        skimage.io.imsave(folder / f"{name}.png", getattr(skimage.data, name)()[:240, 100:340])
    return folder


@pytest.fixture
def run(photos, tmp_path, monkeypatch, capsys):
    """Run pretraining in a folder; return the model files."""

    def run(name: str, *options: object, minutes: float = 9) -> dict[str, bytes]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        args = [
            "--photos", photos, "--state", folder / "state.pt", "--minutes", minutes,
            "--steps", 7, "--batch", 2, "--patch-size", 32, "--reuse", 2, "--log-every", 3,
            *options,
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["pretrain", *map(str, args)])
        pretrain.main()
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == ("done" if minutes else "run again to resume")
        return {path.stem: path.read_bytes() for path in folder.glob("*.safetensors")}

    return run


def test_networks_train_together_as_alone_and_resume_to_the_same_bytes(run, tmp_path):
    alone = run("alone", "--train", f"a={UNSHUFFLED}")
    both = run("both", "--train", f"a={UNSHUFFLED}", f"b={SMALL}")
    assert both.keys() == {"a", "b"} and both["a"] == alone["a"]

    for _ in range(2):
        run("stopped", "--train", f"a={UNSHUFFLED}", minutes=0)
    assert run("stopped", "--train", f"a={UNSHUFFLED}") == alone

    model = load_model(tmp_path / "alone" / "a.safetensors")
    noisy = torch.rand(1, 3, 21, 34)
    assert single_pass(model.network, noisy).shape == noisy.shape
    assert model.config.inference.passes == "single", "as `photo` is run"


def test_distillation_changes_the_weights_and_resumes_to_the_same_bytes(run, tmp_path):
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    skimage.io.imsave(noisy / "a.png", skimage.data.chelsea()[:120, 100:220])
    train = ("--train", f"a={SMALL}")
    distill = ("--noisy", noisy, "--teacher", "photo", "--distilled", 2)
    whole = run("distilled", *train, *distill)
    assert whole != run("simulated", *train)
    run("stopped", *train, *distill, minutes=0)
    assert run("stopped", *train, *distill) == whole


def test_the_self_ensemble_is_equivariant_and_targets_lie_where_the_noise_does(photos):
    network = load_model(find_weights("photo")).network
    noisy = torch.rand(3, 32, 48)
    result = self_ensemble(network, noisy)
    flipped = self_ensemble(network, torch.rot90(noisy, 1, (1, 2)).flip(2))
    assert torch.allclose(flipped, torch.rot90(result, 1, (1, 2)).flip(2), atol=1e-5)

    patches = DistilledPatches(
        photos, "photo", patch_size=64, batch=3, seed=0, device=torch.device("cpu")
    )
    noisy, target, mask = patches.draw(5)
    assert noisy.shape == target.shape == (3, 3, 64, 64) and mask.shape == (3, 1, 64, 64)
    assert (noisy - target).square().mean() < 0.1 * (noisy - target.flip(3)).square().mean()
    again = patches.draw(5)
    assert all(torch.equal(a, b) for a, b in zip((noisy, target, mask), again, strict=True))


def test_replayed_batches_are_augmented_all_in_the_same_way():
    replay = ReplayBuffer(64, seed=0)
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    replay.add((picture, picture + 100, picture > 7))
    seen = set()
    for step in range(60):
        noisy, target, mask = replay.draw(step)
        assert torch.equal(noisy + 100, target) and torch.equal(noisy > 7, mask)
        seen.add(tuple(noisy.flatten().tolist()))
    assert len(seen) == 8
    assert np.isclose(sum(map(sum, seen)), 8 * 120)


class TestConditioned:
    """`training.conditioned`, in miniature."""

    @pytest.fixture
    def stage(self, tmp_path, monkeypatch):
        photos, noisy = tmp_path / "clean", tmp_path / "noisy"
        photos.mkdir()
        noisy.mkdir()
        skimage.io.imsave(photos / "a.png", skimage.data.astronaut())
        skimage.io.imsave(noisy / "a.png", skimage.data.chelsea()[:160, 100:300])

        def run(name: str, *options: object, work: str = "work") -> Path:
            args = [
                "conditioned", name, "--work", tmp_path / work, "--photos", photos,
                "--noisy", noisy, "--teacher", "photo", "--pairs", 4, *options,
            ]  # fmt: skip
            monkeypatch.setattr(sys, "argv", [*map(str, args)])
            conditioned.main()
            return tmp_path / work

        return run

    def test_all_stages_run_and_training_goes_on(self, stage):
        stage("pairs")
        stage("estimator", "--steps", 2)
        work = stage("estimates")
        shutil.copytree(work, work.with_name("stopped"))
        stage("network", "--steps", 3, "--log-every", 1)
        model = load_model(work / "photo.safetensors")
        assert model.network.is_told and model.config.provenance["steps"] == 3
        estimator = torch.load(work / "estimator.pt", weights_only=True)
        kept = model.network.network.estimator.state_dict()
        assert all(torch.equal(kept[name], tensor) for name, tensor in estimator.items())

        stage("network", "--steps", 1, work="stopped")
        stage("network", "--steps", 2, work="stopped")
        steps = torch.load(work.with_name("stopped") / "network.pt", weights_only=True)["steps"]
        assert steps == 3

    def test_white_noise_is_drawn_anew_and_told_as_it_is(self, stage, monkeypatch):
        stage("pairs")
        stage("estimator", "--steps", 1)
        work = stage("estimates")
        monkeypatch.setattr(conditioned_patches, "WHITE_SHARE", 1.0)
        monkeypatch.setattr(conditioned_patches, "MISJUDGED_SHARE", 0.0)
        monkeypatch.setattr(conditioned_patches, "WHITE_SIGMAS", (3.0, 9.0))
        batches = conditioned_patches.Batches(work, 0)
        simulated = slice(0, conditioned_patches.BATCH - conditioned_patches.REAL)
        seen = set()
        for step in range(3):
            noisy, target, _, told = batches.draw(step)
            middle = (target > 0.15) & (target < 0.85)  # nothing is clipped there
            for noise, inside, sigma in zip(
                (255 * (noisy - target))[simulated], middle[simulated],
                told.log_sigma[simulated, 0, 0].exp(), strict=True,
            ):  # fmt: skip
                assert noise[inside].std() == pytest.approx(float(sigma), rel=0.1)
                seen.add(float(noise.sum()))
        assert len(seen) == 3 * simulated.stop
        blind = conditioned_patches.Batches(work, 0, blind=True).draw(0)
        assert all(map(torch.equal, blind[:3], batches.draw(0)[:3]))
        assert torch.equal(blind[3].log_sigma.unique().exp().round(), torch.tensor([10.0]))

    def test_it_begins_with_what_a_network_knows_that_is_not_told(self):
        start = build_network(ModelConfig(network=LIGHT)).eval()
        noisy = 0.5 + 0.05 * torch.randn(1, 3, 32, 48)
        shape = dataclasses.replace(start.network.config, in_channels=INPUTS)
        told = ConditionedUNet(ConditionedUNetConfig(unet=shape))
        conditioned.start_from(told, start)
        wrapped = MaskedNetwork(told, fill="mean", mask_channel=True).eval()
        mask = torch.zeros(1, 1, 32, 48, dtype=torch.bool)
        with torch.no_grad():
            after = wrapped(noisy, mask, PhotoNoise.white(200))  # so strong that nothing is limited
            assert torch.allclose(after, start(noisy, mask), atol=2e-3)
