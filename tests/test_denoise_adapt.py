"""`amsnet denoise --adapt`: a fit to the photos at hand, used at once."""

from __future__ import annotations

import json
import tempfile

import numpy as np
import pytest

from amsnet_cli.fitting.fit import fit
from amsnet_cli.fitting.options import FitOptions
from amsnet_cli.model import load_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.weights.store import models_dir
from tests.coarse_shots import save_shots

pytestmark = pytest.mark.usefixtures("few_validation_patches")


def test_what_is_learned_is_used_and_not_kept(amsnet, clean_crop, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    # As good as certain, however few the steps.
    monkeypatch.setattr("amsnet_cli.fitting.validation.SIGNIFICANCE_Z", -1000.0)
    shots, out = save_shots(tmp_path / "shots", clean_crop), tmp_path / "out"
    done = amsnet("denoise", shots, "-o", out, "--adapt", 1, "--json")
    assert done.exit_code == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    # A machine may be so busy that there is no time for a single step.
    used = "photo" if "not adapted: " in done.stderr else "photo-adapted"
    assert [row["weights"] for row in rows] == [used] * 2
    assert f"({used})".encode() in (out / "0.png").read_bytes()
    assert not list(models_dir().glob("*")) and not list((tmp_path / "temporary").glob("amsnet-*"))


def test_files_are_fitted_together_as_a_folder_is(tmp_path, clean_crop):
    shots = save_shots(tmp_path / "shots", clean_crop)
    options, start = FitOptions(steps=3, batch=2, patch_size=32), load_model("photo")
    of_folder = fit(shots, tmp_path / "a.safetensors", options, start=start)
    of_files = fit(sorted(shots.iterdir()), tmp_path / "b.safetensors", options, start=start)
    assert of_folder.curve == of_files.curve and of_files.photos == 2


def test_a_clean_photo_is_denoised_as_ever(amsnet, clean_crop, tmp_path):
    photo = tmp_path / "clean.png"
    write_photo(Photo(pixels=np.tile(clean_crop, (2, 2, 1))), photo)
    amsnet("denoise", photo, "-o", tmp_path / "a.png")
    done = amsnet("denoise", photo, "-o", tmp_path / "b.png", "--adapt", 4)
    assert done.exit_code == 0 and "not adapted: " in done.stderr
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_cannot_be_read_is_reported_as_ever(amsnet, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    plain = amsnet("denoise", broken, "-o", tmp_path / "x.png")
    done = amsnet("denoise", broken, "-o", tmp_path / "x.png", "--adapt", 4)
    assert done.exit_code == plain.exit_code == 1
    assert done.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]


@pytest.mark.parametrize("other", [("--max-memory", "2G"), ("-w", "auto"), ("--dask", "local")])
def test_options_that_do_not_go_together(amsnet, noisy_png, tmp_path, other):
    done = amsnet("denoise", noisy_png, "-o", tmp_path / "x.png", "--adapt", 4, *other)
    assert done.exit_code == 2 and "exclude each other" in done.stderr
