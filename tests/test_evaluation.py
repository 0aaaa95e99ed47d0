from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.research.datasets import find_pairs, pair_photos
from amsnet_cli.research.evaluation import psnr, ssim


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
    with pytest.raises(PhotoError, match="a.png: [02] clean pictures of this name"):
        pair_photos(noisy, clean)


def test_paths_that_differ_by_a_word_for_noisy_or_clean_match_as_well(tmp_path):
    names = ["x_GT_1.png", "y_1_mean.png"]
    noisy, clean = folders(tmp_path, ["x_NOISY_1.png", "y_1_real.png"], names)
    assert [b.name for _, b in pair_photos(noisy, clean)] == names


WAYS = [
    ("Canon5D2_chair_11_real.JPG", "Canon5D2_chair_11_mean.JPG"),  # PolyU, CC15
    ("0001_001_S6_00100/0001_NOISY_SRGB_010.PNG", "0001_001_S6_00100/0001_GT_SRGB_010.PNG"),
    ("noisy/a.png", "clean/a.png"),
    ("NOISY/deep/a.png", "GT/deep/a.png"),
    ("test/input/7.png", "test/target/7.png"),
    ("real/7_real.png", "mean/7_mean.png"),
    ("real world/7_noisy.png", "real world/7_clean.png"),
    ("lq/meantime.png", "gt/meantime.jpg"),
]


@pytest.mark.parametrize(("noisy", "clean"), WAYS)
def test_one_folder_with_both_kinds(tmp_path, noisy, clean):
    for name, value in ((noisy, 1), (clean, 2)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8, 3), value, np.uint8)
        write_photo(Photo(pixels=pixels), (tmp_path / name).with_suffix(".png"))
    [pair] = find_pairs(tmp_path)
    assert pair.noisy().pixels[0, 0, 0] == 1 and pair.clean().pixels[0, 0, 0] == 2


@pytest.mark.parametrize(
    ("names", "says"),
    [(["a.png"], "cannot recognise"), (["a_noisy.png"], "cannot recognise"),
     (["a_noisy.png", "b_clean.png"], "a_noisy.png: 0 clean pictures"),
     (["a_noisy.png", "a_clean.png", "a_gt.png"], "a_noisy.png: 2 clean pictures")],
)  # fmt: skip
def test_one_folder_with_ambiguous_pairs(tmp_path, names, says):
    folder, _ = folders(tmp_path, names, [])
    with pytest.raises(PhotoError, match=says):
        find_pairs(folder)


class TestSidd:
    @pytest.fixture
    def folder(self, tmp_path, noisy_crop, clean_crop) -> Path:
        """Two scenes of three blocks, in the format of the published validation files."""
        for name, image in (("Noisy", noisy_crop), ("Gt", clean_crop)):
            blocks = np.stack([image[32 * i % 160 :][:32, :32] for i in range(6)])
            key = f"Validation{name}BlocksSrgb"
            savemat(tmp_path / f"{key}.mat", {key: blocks.reshape(2, 3, 32, 32, 3)})
        return tmp_path

    def test_blocks_are_pictures(self, folder, noisy_crop, clean_crop):
        for place in (folder, folder / "ValidationNoisyBlocksSrgb.mat"):
            pairs = find_pairs(place)
            assert [p.name for p in pairs] == ["01_01", "01_02", "01_03", "02_01", "02_02", "02_03"]
            assert np.array_equal(pairs[3].noisy().pixels, noisy_crop[96:128, :32])
            assert np.array_equal(pairs[3].clean().pixels, clean_crop[96:128, :32])

    def test_evaluated_by_the_command(self, folder, amsnet, tiny_model, noisy_crop, clean_crop):
        done = amsnet(
            "evaluate", folder, "-w", tiny_model, "--every", 2, "--pd-stride", 1, "--json"
        )
        assert done.exit_code == 0, done.stderr
        pictures = json.loads(done.stdout)["pictures"]
        assert [p["name"] for p in pictures] == ["01_01", "01_03", "02_02"]
        expected = psnr(noisy_crop[:32, :32], clean_crop[:32, :32])
        assert pictures[0]["noisy_psnr"] == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (lambda p: p.unlink(), "no such file"),
            (lambda p: p.write_text("no MATLAB"), "not a MATLAB 5 file"),
            (lambda p: p.write_bytes(p.read_bytes()[:3000]), "damaged"),
            (lambda p: savemat(p, {"x": 1}), "holds no ValidationGtBlocksSrgb"),
            (lambda p: savemat(p, {"ValidationGtBlocksSrgb": np.zeros((2, 3))}), "not blocks"),
            (lambda p: h5py.File(p, "w").close(), "not a MATLAB 5 file"),
        ],
    )
    def test_other_files_are_one_clear_error(self, folder, amsnet, tiny_model, spoil, says):
        spoil(folder / "ValidationGtBlocksSrgb.mat")
        result = amsnet("evaluate", folder, "-w", tiny_model)
        assert result.exit_code == 1, result.exception
        assert says in result.stderr and result.stderr.count("\n") == 1

    def test_without_scipy_one_line_names_the_extra(self, folder, amsnet, tiny_model, monkeypatch):
        monkeypatch.setitem(sys.modules, "scipy.io", None)
        result = amsnet("evaluate", folder, "-w", tiny_model)
        assert result.exit_code == 2
        assert "amsnet[research]" in result.stderr and result.stderr.count("\n") == 1


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
    assert "8x8 pixels" in result.stderr and "8x9" in result.stderr and "a:" in result.stderr
