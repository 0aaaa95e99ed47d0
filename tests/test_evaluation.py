from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from amsnet_cli.errors import PhotoError
from amsnet_cli.evaluation import pair_photos, psnr, ssim
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo


@given(st.integers(7, 60), st.integers(7, 60), st.sampled_from([1, 3]), st.integers(0, 99))
@settings(max_examples=30)
def test_metrics_agree_with_scikit_image(h, w, channels, seed):
    rng = np.random.default_rng(seed)
    clean = rng.integers(0, 256, (h, w, channels), np.uint8)
    image = (clean + rng.normal(0, 20, clean.shape)).clip(0, 255).astype(np.uint8)
    assert psnr(image, clean) == pytest.approx(peak_signal_noise_ratio(clean, image))
    assert ssim(image, clean) == pytest.approx(structural_similarity(clean, image, channel_axis=2))


def test_extremes():
    x = np.zeros((8, 8, 3), np.uint8)
    assert psnr(x, x) == math.inf
    assert ssim(x, x) == 1
    assert math.isnan(ssim(x[:3], x[:3]))


def folders(tmp_path, names_noisy, names_clean):
    for kind, names in (("noisy", names_noisy), ("clean", names_clean)):
        for name in names:
            path = tmp_path / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_photo(Photo(pixels=np.zeros((8, 8, 3), np.uint8)), path)
    return tmp_path / "noisy", tmp_path / "clean"


def test_pairs_by_path_whatever_the_suffix(tmp_path):
    noisy, clean = folders(tmp_path, ["b/x.jpg", "a.png"], ["a.tif", "b/x.png", "other.png"])
    assert [(a.name, b.name) for a, b in pair_photos(noisy, clean)] == [
        ("a.png", "a.tif"), ("x.jpg", "x.png"),
    ]  # fmt: skip


@pytest.mark.parametrize("names", [["b.png"], ["a.png", "a.tif"]])
def test_a_picture_without_exactly_one_partner_is_an_error(tmp_path, names):
    noisy, clean = folders(tmp_path, ["a.png"], names)
    with pytest.raises(PhotoError, match="a.png: [02] pictures of its name"):
        pair_photos(noisy, clean)


def test_command_prints_scores_with_protocol_seed_and_version(
    tmp_path, amsnet, tiny_model, noisy_crop, clean_crop
):
    for kind, pixels in (("noisy", noisy_crop), ("clean", clean_crop)):
        (tmp_path / kind).mkdir()
        write_photo(Photo(pixels=pixels), tmp_path / kind / "x.png")
    call = ["evaluate", tmp_path / "noisy", tmp_path / "clean", "-w", tiny_model, "--seed", 5]
    shown = amsnet(*call)
    assert shown.exit_code == 0, shown.stderr
    for word in ("x", "mean of 1", "seed 5", "amsnet 0.", "PSNR in dB on 8-bit RGB"):
        assert word in shown.stdout
    scores = json.loads(amsnet(*call, "--json").stdout)
    assert scores["mean"]["noisy_psnr"] == pytest.approx(psnr(noisy_crop, clean_crop))
    assert scores["seed"] == 5 and len(scores["sha256"]) == 64
    assert json.loads(amsnet(*call, "--json").stdout) == scores, "same seed, same scores"


def test_sizes_must_agree(tmp_path, amsnet, tiny_model):
    noisy, clean = folders(tmp_path, ["a.png"], ["a.png"])
    write_photo(Photo(pixels=np.zeros((9, 8, 3), np.uint8)), clean / "a.png")
    result = amsnet("evaluate", noisy, clean, "-w", tiny_model)
    assert result.exit_code == 1
    assert "8x8 pixels" in result.stderr and "8x9" in result.stderr
