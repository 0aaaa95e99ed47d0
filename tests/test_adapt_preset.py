"""`fit` from the default: the noise of one's own photos, in the single pass."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

from amsnet_cli.errors import UsageError
from amsnet_cli.fitting.events import FitEvent, FolderProfiled, StageProgress, StepDone
from amsnet_cli.fitting.fit import FitResult, fit
from amsnet_cli.fitting.options import FitOptions
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.model import Model, load_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.research.evaluation import psnr
from amsnet_cli.weights.store import find_weights, models_dir
from tests.coarse_noise import save_shots, with_coarse_noise

pytestmark = pytest.mark.usefixtures("few_validation_patches")

SHORT = FitOptions(steps=4, batch=2, patch_size=48, seed=1)


@pytest.fixture
def start() -> Model:
    return load_model(find_weights(None), "photo")


@pytest.fixture
def folder(tmp_path: Path, clean_crop: np.ndarray) -> Path:
    return save_shots(tmp_path / "photos", clean_crop)


def test_the_fitted_model_is_better_on_these_photos_and_as_fast(
    tmp_path, folder, start, clean_crop
):
    events: list[FitEvent] = []
    options = FitOptions(steps=24, batch=6, patch_size=64)
    result = fit(folder, tmp_path / "m.safetensors", options, start=start, on_event=events.append)
    noisy = Photo(pixels=with_coarse_noise(clean_crop, 6))
    # The networks alone: no camera's noise is so coarse in so crisp a picture (`core.resolution`).
    before, after = (
        denoise(noisy, m, DenoiseOptions(strength=1.0)).photo.pixels
        for m in (start, load_model(result.model))
    )
    assert psnr(after, clean_crop) > psnr(before, clean_crop) + 0.1
    assert result.best.improvement > 2 * result.best.standard_error
    fitted = load_model(result.model).config
    assert fitted.inference == start.config.inference and fitted.inference.passes == "single"
    assert fitted.cameras == {"Canon EOS 6D": [3200, 3200]}
    [profile] = [event.profile for event in events if isinstance(event, FolderProfiled)]
    assert profile.stride >= 3 and not profile.clean
    assert 3 < 255 * profile.levels[0] < 8
    assert "Canon EOS 6D, ISO 3200" in profile.lines()[0]


def test_same_seed_same_bytes_interrupted_or_not(tmp_path, folder, start):
    whole, parts = (tmp_path / f"{n}.safetensors" for n in ("whole", "parts"))
    options = FitOptions(steps=8, batch=4, patch_size=32, learning_rate=1e-3, seed=1)
    assert fit(folder, whole, options, start=start).model
    torch.manual_seed(99)
    asked = iter([False] * 3 + [True])
    first = fit(folder, parts, options, start=start, stopped=lambda: next(asked))
    assert first.interrupted and first.steps == 3

    def interrupt(event: FitEvent) -> None:
        if isinstance(event, StageProgress) and event.stage == "compare":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(folder, parts, options, start=start, resume=True, on_event=interrupt)
    events: list[FitEvent] = []
    fit(folder, parts, options, start=start, resume=True, on_event=events.append)
    assert not any(isinstance(event, StepDone) for event in events), "all 8 were done"
    assert parts.read_bytes() == whole.read_bytes()


def assert_nothing_written(result: FitResult, folder: Path, why: str) -> None:
    assert result.model is None and why in result.reason
    assert not list(folder.glob("m.*"))


def test_clean_photos_are_left_alone(tmp_path, start):
    folder = tmp_path / "clean"
    folder.mkdir()
    for name in ("coffee", "chelsea", "rocket"):
        write_photo(Photo(pixels=getattr(skimage.data, name)()), folder / f"{name}.png")
    result = fit(folder, tmp_path / "m.safetensors", SHORT, start=start)
    assert_nothing_written(result, tmp_path, "almost no measurable noise")
    assert result.steps == 0


def test_no_gain_no_model(tmp_path, folder, start):
    options = FitOptions(steps=3, batch=2, patch_size=48, learning_rate=1e-12)
    result = fit(folder, tmp_path / "m.safetensors", options, start=start)
    assert_nothing_written(result, tmp_path, "no significant improvement over photo")


def test_photos_too_small_to_measure(tmp_path, start, noisy_crop):
    folder = tmp_path / "small"
    folder.mkdir()
    write_photo(Photo(pixels=noisy_crop[:20, :300]), folder / "a.png")
    result = fit(folder, tmp_path / "m.safetensors", SHORT, start=start)
    assert_nothing_written(result, tmp_path, "too small")


def test_any_kind_of_photo_and_size(tmp_path, folder, start, noisy_crop):
    """Grey, 16 bits, portrait, smaller than a patch, smaller than can be measured, broken."""
    write_photo(Photo(pixels=noisy_crop[..., :1]), folder / "grey.png")
    write_photo(Photo(pixels=noisy_crop[:, :60].astype(np.uint16) * 257), folder / "b.tif")
    write_photo(Photo(pixels=noisy_crop[:40, :40]), folder / "small.png")
    write_photo(Photo(pixels=noisy_crop[:9, :70]), folder / "tiny.png")
    (folder / "broken.jpg").write_bytes(b"no jpeg")
    result = fit(folder, tmp_path / "m.safetensors", SHORT, start=start)
    assert result.photos == 6 and len(result.skipped) == 1 and "broken.jpg" in result.skipped[0]
    assert result.profile.lines()[0].startswith("6 photos: ")
    assert result.profile.mixed and result.profile.unnamed == 4


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (FitOptions(pd_stride=2), "--pd-stride"),
        (FitOptions(mask_ratio=0.3), "--mask-ratio"),
        (FitOptions(patch_size=50), "multiple of 16"),
    ],
)
def test_options_that_adapt_has_no_use_for_are_refused(tmp_path, folder, start, options, why):
    with pytest.raises(UsageError, match=why):
        fit(folder, tmp_path / "m.safetensors", options, start=start)


class TestCommand:
    QUICK = ("--steps", 8, "--batch", 4, "--patch-size", 48)

    def test_fits_shows_and_denoises(self, amsnet, folder, tmp_path):
        clean = tmp_path / "clean"
        result = amsnet("fit", folder, *self.QUICK, "--denoise", clean)
        assert result.exit_code == 0, result.stderr
        assert "Canon EOS 6D, ISO 3200" in result.stderr and "-w auto" in result.stderr
        assert sorted(p.name for p in clean.iterdir()) == ["0.png", "1.png"]
        page = (models_dir() / "photos.html").read_text("utf-8")
        assert "<svg" in page and page.count("data:image/jpeg") >= 4
        # The start hardly removes this noise, so what it removes does not tell what is noise.
        doubt = "annot tell whether it is better than photo: it gains with noise as measured"
        assert "c" + doubt in result.stderr and "C" + doubt in page
        auto = amsnet("denoise", folder / "0.png", "-o", tmp_path / "x.png", "-w", "auto")
        assert auto.exit_code == 0 and "fitted to Canon EOS 6D" in auto.stderr
        assert (tmp_path / "x.png").read_bytes() == (clean / "0.png").read_bytes()

    def test_an_impossible_output_folder_is_refused_before_the_fit(self, amsnet, folder, tmp_path):
        """As `denoise` would, and with nothing computed."""
        full, file, nowhere = tmp_path / "full", tmp_path / "file.png", tmp_path / "no" / "clean"
        full.mkdir()
        (full / "1.png").write_bytes(b"mine")
        file.write_bytes(b"mine")
        for out in (full, file, nowhere, folder):
            expected = amsnet("denoise", "-r", folder, "-o", out)
            result = amsnet("fit", folder, *self.QUICK, "--denoise", out)
            assert result.exit_code == expected.exit_code != 0
            assert result.stderr == expected.stderr and result.stderr.count("\n") == 1
        assert not list(models_dir().glob("*")) and not (tmp_path / "no").exists()
        assert (full / "1.png").read_bytes() == file.read_bytes() == b"mine"
        assert [path.name for path in full.iterdir()] == ["1.png"]

    def test_events(self, amsnet, folder, tmp_path):
        model = tmp_path / "m.safetensors"
        result = amsnet("fit", folder, *self.QUICK, "-o", model, "--json")
        events = [json.loads(line) for line in result.stdout.splitlines()]
        kinds = [event["event"] for event in events]
        assert {"read", "measure", "profile", "step", "validation", "compare"} < set(kinds)
        assert kinds.count("step") == 8 and kinds[-1] == "done"
        last = events[-1]
        assert last["model"] == str(model) and last["steps"] == 8
        assert last["doubt"].startswith("it gains with noise as measured")
        assert last["improvement"] > 2 * last["standard_error"] and Path(last["report"]).is_file()

    def test_a_folder_that_gains_nothing_is_denoised_by_the_start(self, amsnet, folder, tmp_path):
        call = (*self.QUICK, "--lr", "1e-12", "--denoise", tmp_path / "clean", "--json")
        result = amsnet("fit", folder, *call)
        assert result.exit_code == 0 and "no significant improvement" in result.stderr
        assert not list(models_dir().glob("*"))
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert [r["weights"] for r in rows if "weights" in r] == ["photo", "photo"]
