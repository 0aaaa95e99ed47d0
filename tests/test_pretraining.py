"""Pretraining goes on where it stopped; networks that learn at once do not disturb each other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import skimage.io
import torch

pytest.importorskip("cv2", reason="comes with the extra [training]")

from amsnet_cli.core.multi_mask import single_pass
from amsnet_cli.model import load_model
from amsnet_cli.weights.store import find_weights
from training.pretrain import KEPT, Replay, TaughtPatches, seen_eightfold

ROOT = Path(__file__).parents[1]
SMALL = json.dumps({"widths": [8, 16], "blocks": [1, 1]})
UNSHUFFLED = json.dumps({"widths": [16, 32], "blocks": [1, 1], "unshuffle": 2})


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    for name in ("astronaut", "coffee"):
        skimage.io.imsave(folder / f"{name}.png", getattr(skimage.data, name)())
    return folder


def pretrain(
    photos: Path, folder: Path, *learn: str, minutes: float = 9, more: tuple[str, ...] = ()
) -> dict[str, bytes]:
    result = subprocess.run(
        [
            sys.executable, "-m", "training.pretrain", "--photos", photos,
            "--state", folder / "state.pt", "--learn", *learn, "--minutes", str(minutes),
            "--steps", "7", "--batch", "2", "--patch", "32", "--reuse", "2", "--log-every", "3",
            *more,
        ],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert result.stdout.splitlines()[-1] == ("done" if minutes else "call again to go on")
    return {path.stem: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_several_learn_as_each_would_alone_and_a_stopped_run_ends_the_same(photos, tmp_path):
    folders = [tmp_path / name for name in ("alone", "both", "stopped")]
    for folder in folders:
        folder.mkdir()
    alone = pretrain(photos, folders[0], f"a={UNSHUFFLED}")
    both = pretrain(photos, folders[1], f"a={UNSHUFFLED}", f"b={SMALL}")
    assert both.keys() == {"a", "b"} and both["a"] == alone["a"]

    for _ in range(2):
        pretrain(photos, folders[2], f"a={UNSHUFFLED}", minutes=0)
    assert pretrain(photos, folders[2], f"a={UNSHUFFLED}") == alone

    model = load_model(folders[0] / "a.safetensors")
    noisy = torch.rand(1, 3, 21, 34)
    assert single_pass(model.network, noisy).shape == noisy.shape
    assert model.config.inference.passes == "single", "as `photo` is run"


def test_what_a_teacher_makes_of_noisy_photos_is_learned_as_well(photos, tmp_path):
    folders = [tmp_path / name for name in ("untaught", "taught", "stopped")]
    for folder in folders:
        folder.mkdir()
    untaught = pretrain(photos, folders[0], f"a={SMALL}")
    taught = ("--noisy", photos, "--teacher", folders[0] / "a.safetensors", "--taught", "2")
    once = pretrain(photos, folders[1], f"a={SMALL}", more=taught)
    assert once != untaught
    pretrain(photos, folders[2], f"a={SMALL}", more=taught, minutes=0)
    assert pretrain(photos, folders[2], f"a={SMALL}", more=taught) == once


def test_a_teacher_sees_every_way_alike_and_its_target_lies_where_the_noise_does(photos, tmp_path):
    network = load_model(find_weights("photo")).network
    noisy = torch.rand(3, 32, 48)
    seen = seen_eightfold(network, noisy)
    mirrored = seen_eightfold(network, torch.rot90(noisy, 1, (1, 2)).flip(2))
    assert torch.allclose(mirrored, torch.rot90(seen, 1, (1, 2)).flip(2), atol=1e-5)

    patches = TaughtPatches(photos, "photo", 64, 3, 0, torch.device("cpu"))
    noisy, target, hidden = patches.take(5)
    assert noisy.shape == target.shape == (3, 3, 64, 64) and hidden.shape == (3, 1, 64, 64)
    assert (noisy - target).square().mean() < 0.1 * (noisy - target.flip(3)).square().mean()
    again = patches.take(5)
    assert all(torch.equal(a, b) for a, b in zip((noisy, target, hidden), again, strict=True))


def test_patches_learned_from_again_are_mirrored_and_turned_together():
    replay = Replay(KEPT, seed=0)
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    replay.put((picture, picture + 100, picture > 7))
    seen = set()
    for step in range(60):
        noisy, target, hidden = replay.take(step)
        assert torch.equal(noisy + 100, target) and torch.equal(noisy > 7, hidden)
        seen.add(tuple(noisy.flatten().tolist()))
    assert len(seen) == 8
    assert np.isclose(sum(map(sum, seen)), 8 * 120)
