"""`fit` from the default: the noise of one's own photos, in the single pass."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image

from amsnet_cli.errors import UsageError
from amsnet_cli.fitting import images as shots_module
from amsnet_cli.fitting.fit import FitOptions, FitResult, fit
from amsnet_cli.fitting.images import MOST_PHOTOS, WINDOW, read_shots
from amsnet_cli.fitting.noise_profile import Survey
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.model import Model, load_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.research.evaluation import psnr
from amsnet_cli.weights.store import find_weights, models_dir

SHORT = FitOptions(steps=4, batch=2, patch=48, seed=1)


@pytest.fixture
def start() -> Model:
    return load_model(find_weights(None), "photo")


def blotched(clean: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    """Add noise that pixels five apart still share, which the default has hardly seen."""
    generator = torch.Generator().manual_seed(seed)
    height, width, channels = clean.shape
    white = torch.randn((1, channels, height + 8, width + 8), generator=generator)
    white[:, 1:] = 0.8 * white[:, :1] + 0.6 * white[:, 1:]
    taps = torch.exp(-(torch.arange(-4.0, 5) ** 2) / (2 * 1.6**2))
    kernel = torch.outer(taps, taps)
    noise = F.conv2d(white[0][:, None], kernel[None, None])[:, 0] / kernel.square().sum().sqrt()
    noisy = clean + sigma * noise.permute(1, 2, 0).numpy()
    return noisy.round().clip(0, 255).astype(np.uint8)


@pytest.fixture
def shots(tmp_path: Path, clean_crop: np.ndarray) -> Path:
    folder = tmp_path / "shots"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS 6D"
    exif.get_ifd(0x8769)[0x8827] = 3200
    for i in range(2):
        noisy = blotched(np.roll(clean_crop, 40 * i, 1), 6, i)
        Image.fromarray(noisy).save(folder / f"{i}.png", exif=exif)
    return folder


def test_the_fitted_model_is_better_on_these_photos_and_as_fast(tmp_path, shots, start, clean_crop):
    found: list[Survey] = []
    options = FitOptions(steps=40, batch=6, patch=64)
    result = fit(shots, tmp_path / "m.safetensors", options, start=start, surveyed=found.append)
    noisy = Photo(pixels=blotched(clean_crop, 6))
    # The networks alone: no camera's noise is so coarse in so crisp a picture (`core.resolution`).
    before, after = (
        denoise(noisy, m, DenoiseOptions(strength=1.0)).photo.pixels
        for m in (start, load_model(result.model))
    )
    assert psnr(after, clean_crop) > psnr(before, clean_crop) + 0.3
    assert result.kept.gain > 2 * result.kept.error
    on_the_way = next(p for p in result.curve if p.step == result.kept.step)
    assert result.kept.error < 0.7 * on_the_way.error, "the verdict is by more patches"
    fitted = load_model(result.model).config
    assert fitted.inference == start.config.inference and fitted.inference.passes == "single"
    assert fitted.cameras == {"Canon EOS 6D": [3200, 3200]}
    [survey] = found
    assert survey.stride >= 3 and not survey.clean
    assert 3 < 255 * survey.levels[0] < 8
    assert "Canon EOS 6D, ISO 3200" in survey.lines()[0]


def test_same_seed_same_bytes_interrupted_or_not(tmp_path, shots, start):
    whole, again, parts = (tmp_path / f"{n}.safetensors" for n in ("whole", "again", "parts"))
    options = FitOptions(steps=12, batch=4, patch=32, rate=1e-3, seed=1)
    for output in (whole, again):
        torch.manual_seed(len(output.name))
        assert fit(shots, output, options, start=start).model
    assert again.read_bytes() == whole.read_bytes()
    asked = iter([False] * 5 + [True])
    first = fit(shots, parts, options, start=start, stopped=lambda: next(asked))
    assert first.interrupted and first.steps == 5

    def interrupt(what: str, done: int, of: int) -> None:
        if "comparing" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(shots, parts, options, start=start, resume=True, reading=interrupt)
    steps: list[int] = []
    fit(shots, parts, options, start=start, resume=True, progress=lambda p: steps.append(p.step))
    assert steps == [12], "it had come to the comparison with its start"
    assert parts.read_bytes() == whole.read_bytes()


def assert_nothing_written(result: FitResult, folder: Path, why: str) -> None:
    assert result.model is None and why in result.why_not
    assert not list(folder.glob("m.*"))


def test_clean_photos_are_left_alone(tmp_path, start):
    folder = tmp_path / "clean"
    folder.mkdir()
    for name in ("coffee", "chelsea", "rocket"):
        write_photo(Photo(pixels=getattr(skimage.data, name)()), folder / f"{name}.png")
    result = fit(folder, tmp_path / "m.safetensors", SHORT, start=start)
    assert_nothing_written(result, tmp_path, "hardly any noise")
    assert result.steps == 0


def test_photos_of_white_noise_start_from_what_knows_it(tmp_path, start, noisy_crop):
    folder = tmp_path / "white"
    folder.mkdir()
    for i in range(2):
        write_photo(Photo(pixels=np.roll(noisy_crop, 30 * i, 0)), folder / f"{i}.png")
    options = FitOptions(steps=3, batch=2, patch=48, rate=1e-12)
    result = fit(folder, tmp_path / "m.safetensors", options, start=start)
    assert_nothing_written(result, tmp_path, "gain nothing over white")


def test_no_gain_no_model(tmp_path, shots, start):
    options = FitOptions(steps=3, batch=2, patch=48, rate=1e-12)
    result = fit(shots, tmp_path / "m.safetensors", options, start=start)
    assert_nothing_written(result, tmp_path, "gain nothing over photo")


def test_photos_too_small_to_measure(tmp_path, start, noisy_crop):
    folder = tmp_path / "small"
    folder.mkdir()
    write_photo(Photo(pixels=noisy_crop[:20, :300]), folder / "a.png")
    result = fit(folder, tmp_path / "m.safetensors", SHORT, start=start)
    assert_nothing_written(result, tmp_path, "too small")


def test_any_kind_of_photo_and_size(tmp_path, shots, start, noisy_crop):
    """Grey, 16 bits, portrait, smaller than a patch, smaller than can be measured, broken."""
    write_photo(Photo(pixels=noisy_crop[..., :1]), shots / "grey.png")
    write_photo(Photo(pixels=noisy_crop[:, :60].astype(np.uint16) * 257), shots / "b.tif")
    write_photo(Photo(pixels=noisy_crop[:40, :40]), shots / "small.png")
    write_photo(Photo(pixels=noisy_crop[:9, :70]), shots / "tiny.png")
    (shots / "broken.jpg").write_bytes(b"no jpeg")
    lines: list[str] = []
    result = fit(shots, tmp_path / "m.safetensors", SHORT, start=start, notice=lines.append)
    assert result.photos == 6 and len(result.skipped) == 1 and "broken.jpg" in lines[0]
    assert result.survey.lines()[0].startswith("6 photos: ")
    assert result.survey.mixed and result.survey.unnamed == 4


class TestReading:
    """Of a folder as much as is of use, drawn by the seed alone."""

    @staticmethod
    def folder(tmp_path: Path, count: int, side: int = 8) -> Path:
        folder = tmp_path / "many"
        folder.mkdir()
        for i in range(count):
            Image.new("L", (side, side + i % 2), i % 256).save(folder / f"{i:03}.png")
        return folder

    def test_a_large_folder_is_drawn_from(self, tmp_path):
        folder = self.folder(tmp_path, MOST_PHOTOS + 20)
        a, b = (read_shots(folder, pixels=10**6, seed=s) for s in (0, 1))
        assert len(a.paths) == MOST_PHOTOS and a.found == MOST_PHOTOS + 20
        assert a.paths == sorted(a.paths) != b.paths
        assert a.fingerprint() == read_shots(folder, pixels=10**6, seed=0).fingerprint()
        assert [w.photo for w in a.windows] == list(range(MOST_PHOTOS))

    def test_a_small_folder_is_read_whole(self, tmp_path):
        folder = self.folder(tmp_path, 40)
        shots = read_shots(folder, pixels=40 * 8 * 9, seed=3)
        assert len(shots.paths) == shots.found == 40

    def test_no_more_photos_than_pixels_are_kept_of(self, tmp_path):
        folder = self.folder(tmp_path, 30, side=WINDOW)
        seen: list[tuple[int, int]] = []

        def progress(done: int, of: int) -> None:
            seen.append((done, of))

        shots = read_shots(folder, pixels=7 * WINDOW**2, seed=0, progress=progress)
        assert len(shots.paths) == len(shots.windows) == 7
        assert seen[-1] == (7, 7) and [done for done, _ in seen] == list(range(1, 8))

    def test_others_are_drawn_for_those_that_cannot_be_read(self, tmp_path):
        folder = self.folder(tmp_path, 30, side=WINDOW)
        for path in sorted(folder.iterdir())[::2]:
            path.write_bytes(b"no picture")
        shots = read_shots(folder, pixels=7 * WINDOW**2, seed=0)
        assert len(shots.paths) == 7 and 0 < len(shots.skipped) < 15
        assert list(shots.skipped) == sorted(shots.skipped)

    @pytest.mark.parametrize("most", [1, 700, 10**9])
    def test_files_hold_no_more_than_may_be_read(self, tmp_path, most):
        folder = self.folder(tmp_path, 30)
        read = read_shots(folder, pixels=10**6, seed=0, most_bytes=most).paths
        sizes = [path.stat().st_size for path in folder.iterdir()]
        if most == 700:
            assert most - max(sizes) <= sum(p.stat().st_size for p in read) <= most
        else:
            assert len(read) == (1 if most == 1 else 30)

    def test_readers_and_order_change_nothing(self, tmp_path, monkeypatch, noisy_crop):
        folder, turned = tmp_path / "a", tmp_path / "b"
        pictures = {f"{i}.png": np.roll(np.tile(noisy_crop, (5, 4, 1)), i, 0) for i in range(5)}
        for place, names in ((folder, sorted(pictures)), (turned, sorted(pictures, reverse=True))):
            place.mkdir()
            for name in names:
                write_photo(Photo(pixels=pictures[name]), place / name)
        found = set()
        for place, readers, at_once in ((folder, 1, 1), (folder, 8, 10**9), (turned, 3, 10**6)):
            monkeypatch.setattr(shots_module, "_READERS", readers)
            monkeypatch.setattr(shots_module, "_AT_ONCE", at_once)
            found.add(read_shots(place, pixels=10**6, seed=0).fingerprint())
        assert len(found) == 1

    def test_large_photos_are_kept_in_part(self, tmp_path, noisy_crop):
        folder = tmp_path / "large"
        folder.mkdir()
        write_photo(Photo(pixels=np.tile(noisy_crop, (5, 6, 1))), folder / "a.png")
        [*windows] = read_shots(folder, pixels=600_000, seed=0).windows
        assert [w.pixels.shape for w in windows] == [(512, 512, 3)] * 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (FitOptions(stride=2), "--stride"),
        (FitOptions(hidden_share=0.3), "--hidden-share"),
        (FitOptions(patch=50), "multiple of 16"),
    ],
)
def test_what_adapting_has_no_use_for_is_refused(tmp_path, shots, start, options, why):
    with pytest.raises(UsageError, match=why):
        fit(shots, tmp_path / "m.safetensors", options, start=start)


class TestCommand:
    QUICK = ("--steps", 12, "--batch", 4, "--patch", 48)

    def test_fits_shows_and_denoises(self, amsnet, shots, tmp_path):
        clean = tmp_path / "clean"
        result = amsnet("fit", shots, *self.QUICK, "--denoise", clean)
        assert result.exit_code == 0, result.stderr
        assert "Canon EOS 6D, ISO 3200" in result.stderr and "-w auto" in result.stderr
        assert sorted(p.name for p in clean.iterdir()) == ["0.png", "1.png"]
        page = (models_dir() / "shots.html").read_text("utf-8")
        assert "<svg" in page and page.count("data:image/jpeg") >= 4
        auto = amsnet("denoise", shots / "0.png", "-o", tmp_path / "x.png", "-w", "auto")
        assert auto.exit_code == 0 and "fitted to Canon EOS 6D" in auto.stderr
        assert (tmp_path / "x.png").read_bytes() == (clean / "0.png").read_bytes()

    def test_where_results_cannot_go_is_told_before_the_fit(self, amsnet, shots, tmp_path):
        """As `denoise` would, and with nothing computed."""
        full, file, nowhere = tmp_path / "full", tmp_path / "file.png", tmp_path / "no" / "clean"
        full.mkdir()
        (full / "1.png").write_bytes(b"mine")
        file.write_bytes(b"mine")
        for out in (full, file, nowhere, shots):
            told = amsnet("denoise", "-r", shots, "-o", out)
            result = amsnet("fit", shots, *self.QUICK, "--denoise", out)
            assert result.exit_code == told.exit_code != 0
            assert result.stderr == told.stderr and result.stderr.count("\n") == 1
        assert not list(models_dir().glob("*")) and not (tmp_path / "no").exists()
        assert (full / "1.png").read_bytes() == file.read_bytes() == b"mine"
        assert [path.name for path in full.iterdir()] == ["1.png"]

    def test_events(self, amsnet, shots, tmp_path):
        model = tmp_path / "m.safetensors"
        result = amsnet("fit", shots, *self.QUICK, "-o", model, "--json")
        events = [json.loads(line) for line in result.stdout.splitlines()]
        kinds = [event["event"] for event in events]
        assert {"reading photos", "measuring noise", "survey", "step", "check"} < set(kinds)
        assert kinds.count("step") >= 12 and kinds[-1] == "done"
        last = events[-1]
        assert last["model"] == str(model) and last["steps"] == 12
        assert last["gain"] > 2 * last["error"] and Path(last["report"]).is_file()

    def test_a_folder_that_gains_nothing_is_denoised_by_the_default(self, amsnet, shots, tmp_path):
        call = (*self.QUICK, "--rate", "1e-12", "--denoise", tmp_path / "clean", "--json")
        result = amsnet("fit", shots, *call)
        assert result.exit_code == 0 and "gain nothing" in result.stderr
        assert not list(models_dir().glob("*"))
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert [r["weights"] for r in rows if "weights" in r] == ["photo", "photo"]
