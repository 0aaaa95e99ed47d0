from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from amsnet_cli.errors import PhotoError, TrainingError, UsageError
from amsnet_cli.fitting.fit import FitOptions, fit, resume_path
from amsnet_cli.inference.denoise import denoise
from amsnet_cli.model import load_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.research.evaluation import psnr

SHORT = FitOptions(recipe="masked", steps=6, stride=2, patch=32, batch=2, seed=1)


@pytest.fixture
def folder(tmp_path: Path, noisy_crop: np.ndarray) -> Path:
    """A small noisy picture, a grey one, a 16-bit one and one smaller than a patch."""
    folder = tmp_path / "shots"
    (folder / "deep").mkdir(parents=True)
    write_photo(Photo(pixels=noisy_crop), folder / "a.png")
    write_photo(Photo(pixels=noisy_crop[..., :1]), folder / "deep" / "grey.png")
    write_photo(Photo(pixels=noisy_crop.astype(np.uint16) * 257), folder / "b.tif")
    write_photo(Photo(pixels=noisy_crop[:9, :70]), folder / "small.png")
    return folder


def test_learns_to_denoise_from_noise_alone(tmp_path, noisy_crop, clean_crop):
    """The whole story: fit one noisy picture from scratch, denoise it, gain at least 4 dB."""
    folder = tmp_path / "shots"
    folder.mkdir()
    write_photo(Photo(pixels=noisy_crop), folder / "a.png")
    output = tmp_path / "m.safetensors"
    options = FitOptions(steps=120, stride=1, patch=96, batch=4)
    result = fit(folder, output, options)
    after = denoise(Photo(pixels=noisy_crop), load_model(output)).photo.pixels
    assert result.kept.loss < result.curve[0].loss
    assert psnr(after, clean_crop) > psnr(noisy_crop, clean_crop) + 4


def test_same_seed_same_bytes(tmp_path, folder):
    for name in "ab":
        torch.manual_seed(ord(name))
        fit(folder, tmp_path / f"{name}.safetensors", SHORT)
    a, b = ((tmp_path / f"{n}.safetensors").read_bytes() for n in "ab")
    assert a == b


def test_an_interrupted_fit_goes_on_to_the_same_bytes(tmp_path, folder):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    fit(folder, whole, SHORT)
    asked = iter([False, False, False, True])
    first = fit(folder, parts, SHORT, stopped=lambda: next(asked))
    assert first.interrupted and first.steps == 3
    assert load_model(parts), "what there is, is saved"
    second = fit(folder, parts, SHORT, resume=True)
    assert not second.interrupted and second.steps == 6
    assert parts.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.glob("*.safetensors*")) == [
        "parts.safetensors", "whole.safetensors",
    ]  # fmt: skip


def test_resuming_needs_the_same_fit(tmp_path, folder, tiny_model):
    output = tmp_path / "m.safetensors"
    with pytest.raises(TrainingError, match="no interrupted fit"):
        fit(folder, output, SHORT, resume=True)
    asked = iter([False, True])
    fit(folder, output, SHORT, stopped=lambda: next(asked))
    other = FitOptions(recipe="masked", steps=6, stride=4, patch=32, batch=2, seed=1)
    with pytest.raises(UsageError, match="another stride"):
        fit(folder, output, other, resume=True)
    with pytest.raises(UsageError, match="started from scratch"):
        fit(folder, output, SHORT, resume=True, start=load_model(tiny_model))
    write_photo(Photo(pixels=np.zeros((40, 40, 3), np.uint8)), folder / "new.png")
    with pytest.raises(TrainingError, match="photos have changed"):
        fit(folder, output, SHORT, resume=True)
    state = tmp_path / "m.safetensors.resume"
    state.write_bytes(state.read_bytes()[:5000])
    with pytest.raises(TrainingError, match="is damaged"):
        fit(folder, output, SHORT, resume=True)


def test_a_state_from_before_an_option_existed_is_of_its_default(tmp_path, folder):
    output = tmp_path / "m.safetensors"
    asked = iter([False, True])
    fit(folder, output, SHORT, stopped=lambda: next(asked))
    state = torch.load(resume_path(output), weights_only=True)
    for new in ("match", "smooth"):
        del state["options"][new]
    torch.save(state, resume_path(output))
    assert fit(folder, output, SHORT, resume=True).steps == 6


def test_starting_from_a_model_is_never_worse_by_its_own_measure(tmp_path, folder, tiny_model):
    start = load_model(tiny_model)
    before = {k: v.clone() for k, v in start.network.state_dict().items()}
    options = FitOptions(recipe="masked", steps=3, stride=2, patch=32, rate=50.0)
    try:
        result = fit(folder, tmp_path / "m.safetensors", options, start=start)
    except TrainingError:  # thrown off entirely: nothing is written
        assert not (tmp_path / "m.safetensors").exists()
    else:
        assert result.model is None and "gain nothing" in result.why_not
        assert not (tmp_path / "m.safetensors").exists()
    assert all(torch.equal(v, before[k]) for k, v in start.network.state_dict().items())


def test_unreadable_photos_are_named_and_skipped(tmp_path, folder):
    (folder / "broken.jpg").write_bytes(b"no jpeg")
    lines = []
    result = fit(folder, tmp_path / "m.safetensors", SHORT, notice=lines.append)
    assert result.photos == 4
    [skipped] = result.skipped
    assert "broken.jpg" in skipped and any("broken.jpg" in line for line in lines)


def test_only_unreadable_photos_is_an_error(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no jpeg")
    with pytest.raises(PhotoError, match="none of 1 photos in it"):
        fit(tmp_path, tmp_path / "m.safetensors", SHORT)


def test_the_user_s_photos_are_untouched(tmp_path, folder):
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*.*")}
    fit(folder, tmp_path / "m.safetensors", SHORT)
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*.*")}


def test_progress_counts_up_to_the_end(tmp_path, folder):
    seen = []
    fit(folder, tmp_path / "m.safetensors", SHORT, progress=seen.append)
    assert [p.step for p in seen][:6] == [1, 2, 3, 4, 5, 6]
    assert seen[-1].share == 1 and seen[-1].best <= seen[0].best


@pytest.mark.parametrize(
    "options",
    [
        FitOptions(stride=0), FitOptions(hidden_share=1.0),
        FitOptions(stride=5, patch=32), FitOptions(batch=0),
    ],
)  # fmt: skip
def test_options_out_of_range(tmp_path, folder, options):
    with pytest.raises(UsageError):
        fit(folder, tmp_path / "m.safetensors", options)


def test_however_much_is_hidden_in_training_inference_sees_something(tmp_path, folder):
    options = FitOptions(steps=1, stride=1, patch=32, hidden_share=0.9)
    fit(folder, tmp_path / "m.safetensors", options)
    assert load_model(tmp_path / "m.safetensors").config.inference.n_masks == 2
