"""How long a fit trains, what it starts from, and how a model grows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from amsnet_cli.errors import UsageError
from amsnet_cli.fitting.budget import Budget
from amsnet_cli.fitting.events import StepDone
from amsnet_cli.fitting.fit import fit
from amsnet_cli.fitting.options import FitOptions
from amsnet_cli.fitting.outlook import levelled_off, outlook
from amsnet_cli.fitting.settings import resolve_settings
from amsnet_cli.model import Model, load_model
from amsnet_cli.report.curve import CurvePoint
from amsnet_cli.weights.store import find_weights, models_dir
from tests.coarse_noise import save_shots

pytestmark = pytest.mark.usefixtures("few_validation_patches")

QUICK = ("--steps", 8, "--batch", 4, "--patch-size", 48)


@pytest.fixture
def start() -> Model:
    return load_model(find_weights(None), "photo")


@pytest.fixture
def shots(tmp_path: Path, clean_crop: np.ndarray) -> Path:
    return save_shots(tmp_path / "shots", clean_crop)


def curve_of(law, steps: list[int], patches: int = 40):
    """Points and losses of patches, whose mean falls as `law` says; the patches differ."""
    own = 1 + 0.3 * torch.rand(patches, generator=torch.Generator().manual_seed(0)).double()
    losses = [own - law(step) for step in steps]
    points = [
        CurvePoint(
            step=step, loss=float(x.mean()), improvement=float((losses[0] - x).mean() / own.mean()),
            standard_error=0.0,
        )
        for step, x in zip(steps, losses, strict=True)
    ]  # fmt: skip
    return points, losses


STEPS = [0, 100, 200, 300, 400, 500, 625, 781, 977]


class TestOutlook:
    def test_a_curve_that_still_falls_is_not_level_and_says_what_more_brings(self):
        points, losses = curve_of(lambda s: 0.01 * np.log2(1 + s / 100), STEPS)
        assert not levelled_off(points, losses)
        slope = 0.01 / float(losses[0].mean())
        assert outlook(points, losses).improvement == pytest.approx(slope / 2, rel=0.2)

    def test_a_curve_that_has_levelled_off(self):
        points, losses = curve_of(lambda s: 0.03 * (1 - np.exp(-s / 80)), STEPS)
        assert levelled_off(points, losses)
        assert outlook(points, losses).improvement < 0.001

    def test_too_few_points_say_nothing(self):
        points, losses = curve_of(lambda s: 0.0, STEPS[:3])
        assert outlook(points, losses) is None and not levelled_off(points, losses)


class TestBudget:
    def test_minutes_and_steps_are_used_up(self, start):
        limited = Budget(resolve_settings(FitOptions(minutes=2), start), 0.5)
        assert limited.progress(100_000, 60) == 0.5 and limited.progress(1, 120) == 1
        limited = Budget(resolve_settings(FitOptions(steps=3000), start), 0.5)
        assert limited.progress(1500, 1e6) == 0.5 and not limited.is_open

    @pytest.mark.slow
    def test_without_a_budget_it_ends_as_a_fit_of_so_many_steps(
        self, tmp_path, shots, start, monkeypatch
    ):
        """Where the loss is level, and with the same bytes, interrupted or not."""
        monkeypatch.setattr("amsnet_cli.fitting.validation.FIRST_CHECK", 2)
        monkeypatch.setattr("amsnet_cli.fitting.outlook.LEAST_STEPS", 4)
        monkeypatch.setattr("amsnet_cli.fitting.outlook.LEVEL_SHARE", 1e6)  # any curve is level
        brief = {"batch": 2, "patch_size": 32, "seed": 1}
        paths = {n: tmp_path / f"{n}.safetensors" for n in ("open", "steps", "parts")}
        ended = fit(shots, paths["open"], FitOptions(**brief), start=start)
        assert ended.steps == 24 and ended.outlook is not None
        fit(shots, paths["steps"], FitOptions(steps=24, **brief), start=start)
        asked = iter([False] * 20 + [True])
        first = fit(
            shots, paths["parts"], FitOptions(**brief), start=start, stopped=lambda: next(asked)
        )
        assert first.interrupted and first.steps == 20
        events: list[object] = []
        fit(
            shots, paths["parts"], FitOptions(**brief), start=start, resume=True,
            on_event=events.append,
        )  # fmt: skip
        assert [e.step for e in events if isinstance(e, StepDone)] == [21, 22, 23, 24]
        assert len({path.read_bytes() for path in paths.values()}) == 1


class TestStart:
    @pytest.mark.slow
    def test_the_models_of_the_camera_are_tried(self, amsnet, shots, clean_crop):
        done = amsnet("fit", shots, *QUICK)
        assert done.exit_code == 0 and "starts from" not in done.stderr, "there is none yet"
        again = save_shots(shots.parent / "again", clean_crop)
        events = amsnet("fit", again, *QUICK, "--json").stdout.splitlines()
        [chosen] = [e for e in map(json.loads, events) if e["event"] == "start"]
        assert [trial["name"] for trial in chosen["trials"]] == ["photo", "shots"]
        assert chosen["name"] == "shots", "which was fitted to the same noise"
        named = amsnet("fit", again, *QUICK, "-w", "photo", "--force", "--json").stdout
        assert '"event": "start"' not in named


class TestGrowth:
    def test_a_model_grows_and_keeps_its_cameras(self, amsnet, shots, clean_crop):
        assert amsnet("fit", shots, *QUICK, "-w", "photo").exit_code == 0
        path = models_dir() / "shots.safetensors"
        before = load_model(path)
        assert before.known
        more = save_shots(shots.parent / "more", clean_crop, sigma=9, iso=12800)
        done = amsnet("fit", more, *QUICK, "--continue-from", "shots")
        assert done.exit_code == 0, done.stderr
        after = load_model(path)
        assert after.config.cameras == {"Canon EOS 6D": [3200, 12800]}
        assert len(after.known) > len(before.known)
        assert torch.equal(after.known[0].model.covariance, before.known[0].model.covariance)
        assert torch.equal(after.known[0].model.gain, before.known[0].model.gain)
        assert after.config.provenance["before"]["fitted_on"] == "shots"
        assert [p.name for p in models_dir().glob("*.safetensors")] == ["shots.safetensors"]

    def test_only_what_says_what_it_was_fitted_to_can_grow(self, amsnet, shots):
        bundled = find_weights("photo").read_bytes()
        done = amsnet("fit", shots, *QUICK, "--continue-from", "photo")
        assert done.exit_code == 2 and "does not say what it was fitted to" in done.stderr
        assert find_weights("photo").read_bytes() == bundled
        both = amsnet("fit", shots, "--continue-from", "photo", "-w", "photo")
        assert both.exit_code == 2 and "exclude each other" in both.stderr

    @pytest.mark.slow
    def test_an_interrupted_model_stays_as_it_was(self, tmp_path, shots, start):
        path = tmp_path / "m.safetensors"
        options = {"steps": 4, "batch": 2, "patch_size": 32, "learning_rate": 1e-3}
        assert fit(shots, path, FitOptions(**options), start=start).model
        before = path.read_bytes()
        asked = iter([False, True])
        part = fit(
            shots, path, FitOptions(grow=True, **options), start=load_model(path),
            stopped=lambda: next(asked),
        )  # fmt: skip
        assert part.interrupted and part.model is None and path.read_bytes() == before
        fit(shots, path, FitOptions(grow=True, **options), start=load_model(path), resume=True)
        assert not path.with_name("m.safetensors.resume").exists()

    def test_other_presets_do_not_grow(self, tmp_path, shots, start):
        with pytest.raises(UsageError, match="does not say"):
            fit(shots, tmp_path / "m.safetensors", FitOptions(grow=True), start=start)
