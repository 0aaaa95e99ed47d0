from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from amsnet_cli.errors import PhotoError, TrainingError, UsageError
from amsnet_cli.fitting.events import ImageSkipped, StepDone, Validated
from amsnet_cli.fitting.fit import fit
from amsnet_cli.fitting.options import FitOptions
from amsnet_cli.inference.denoise import denoise
from amsnet_cli.model import load_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.research.evaluation import psnr

pytestmark = pytest.mark.usefixtures("few_validation_patches")

SHORT = FitOptions(preset="masked", steps=6, pd_stride=2, patch_size=32, batch=2, seed=1)


@pytest.fixture
def folder(tmp_path: Path, noisy_crop: np.ndarray) -> Path:
    """A small noisy picture, a grey one, a 16-bit one and one smaller than a patch."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    write_photo(Photo(pixels=noisy_crop), folder / "a.png")
    write_photo(Photo(pixels=noisy_crop[..., :1]), folder / "deep" / "grey.png")
    write_photo(Photo(pixels=noisy_crop.astype(np.uint16) * 257), folder / "b.tif")
    write_photo(Photo(pixels=noisy_crop[:9, :70]), folder / "small.png")
    return folder


def test_learns_to_denoise_from_noise_alone(tmp_path, noisy_crop, clean_crop):
    """The whole story: fit one noisy picture from scratch, denoise it, gain at least 4 dB."""
    folder = tmp_path / "photos"
    folder.mkdir()
    write_photo(Photo(pixels=noisy_crop), folder / "a.png")
    output = tmp_path / "m.safetensors"
    options = FitOptions(steps=50, pd_stride=1, patch_size=64, batch=4)
    result = fit(folder, output, options)
    after = denoise(Photo(pixels=noisy_crop), load_model(output)).photo.pixels
    assert result.best.loss < result.curve[0].loss
    assert psnr(after, clean_crop) > psnr(noisy_crop, clean_crop) + 4


@pytest.mark.slow
def test_same_seed_same_bytes_interrupted_or_not(tmp_path, folder):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    events = []
    fit(folder, whole, SHORT, on_event=events.append)
    steps = [event for event in events if isinstance(event, StepDone)]
    validated = [event for event in events if isinstance(event, Validated)]
    assert [event.step for event in steps] == [1, 2, 3, 4, 5, 6] and steps[-1].progress == 1
    assert [event.point.step for event in validated] == [0, 6]
    assert validated[-1].best.loss <= validated[0].best.loss

    torch.manual_seed(99)
    asked = iter([False, False, False, True])
    first = fit(folder, parts, SHORT, stopped=lambda: next(asked))
    assert first.interrupted and first.steps == 3
    assert load_model(parts), "the model so far is saved"
    second = fit(folder, parts, SHORT, resume=True)
    assert not second.interrupted and second.steps == 6
    assert parts.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.glob("*.safetensors*")) == [
        "parts.safetensors", "whole.safetensors",
    ]  # fmt: skip


@pytest.mark.slow
def test_stopped_as_it_distils_the_model_is_saved_and_resumes(tmp_path, folder):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    fit(folder, whole, SHORT)
    seen = []
    stopped = fit(
        folder, parts, SHORT, on_event=seen.append,
        stopped=lambda: any(isinstance(e, StepDone) and e.progress == 1 for e in seen),
    )  # fmt: skip
    assert stopped.interrupted and stopped.steps == 6 and load_model(parts)
    assert not fit(folder, parts, SHORT, resume=True).interrupted
    assert parts.read_bytes() == whole.read_bytes()


def test_resuming_needs_the_same_fit(tmp_path, folder, tiny_model):
    output = tmp_path / "m.safetensors"
    with pytest.raises(TrainingError, match="no interrupted fit"):
        fit(folder, output, SHORT, resume=True)
    asked = iter([False, True])
    fit(folder, output, SHORT, stopped=lambda: next(asked))
    other = FitOptions(preset="masked", steps=6, pd_stride=4, patch_size=32, batch=2, seed=1)
    with pytest.raises(UsageError, match="another pd_stride"):
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


def test_starting_from_a_model_is_never_worse_by_its_own_measure(tmp_path, folder, tiny_model):
    start = load_model(tiny_model)
    before = {k: v.clone() for k, v in start.network.state_dict().items()}
    options = FitOptions(preset="masked", steps=3, pd_stride=2, patch_size=32, learning_rate=50.0)
    try:
        result = fit(folder, tmp_path / "m.safetensors", options, start=start)
    except TrainingError:  # thrown off entirely: nothing is written
        assert not (tmp_path / "m.safetensors").exists()
    else:
        assert result.model is None and "no significant improvement" in result.reason
        assert not (tmp_path / "m.safetensors").exists()
    assert all(torch.equal(v, before[k]) for k, v in start.network.state_dict().items())


def test_unreadable_photos_are_skipped_and_no_photo_is_touched(tmp_path, folder):
    (folder / "broken.jpg").write_bytes(b"no jpeg")
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*.*")}
    events = []
    result = fit(folder, tmp_path / "m.safetensors", SHORT, on_event=events.append)
    assert result.photos == 4
    [skipped] = result.skipped
    assert "broken.jpg" in skipped and ImageSkipped(reason=skipped) in events
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*.*")}


def test_only_unreadable_photos_is_an_error(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no jpeg")
    with pytest.raises(PhotoError, match="none of its 1 photos"):
        fit(tmp_path, tmp_path / "m.safetensors", SHORT)


@pytest.mark.parametrize(
    "options",
    [
        FitOptions(pd_stride=0), FitOptions(mask_ratio=1.0),
        FitOptions(pd_stride=5, patch_size=32), FitOptions(batch=0),
    ],
)  # fmt: skip
def test_options_out_of_range(tmp_path, folder, options):
    with pytest.raises(UsageError):
        fit(folder, tmp_path / "m.safetensors", options)


def test_at_any_mask_ratio_inference_sees_some_pixels(tmp_path, folder):
    options = FitOptions(steps=1, pd_stride=1, patch_size=32, mask_ratio=0.9)
    fit(folder, tmp_path / "m.safetensors", options)
    assert load_model(tmp_path / "m.safetensors").config.inference.n_masks == 2
