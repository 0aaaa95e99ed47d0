from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from amsnet_cli import __version__
from amsnet_cli.cli.app import app
from amsnet_cli.cli.console import stop_requests
from amsnet_cli.photos.colour import srgb_profile
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.weights.store import models_dir
from tests.test_photos import XMP, exif_block

AS_COMMAND = [sys.executable, "-m", "amsnet_cli"]


def command(*args: object, **kwargs) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AS_COMMAND, *map(str, args)], capture_output=True, text=True, check=False, **kwargs
    )


def test_no_help_holds_words_in_brackets_which_would_not_be_shown():
    """Rich takes them for markup."""
    group = typer.main.get_command(app)
    commands = [group, *group.commands.values()]
    commands += [c for group in commands[1:] for c in getattr(group, "commands", {}).values()]
    helps = [c.help or "" for c in commands]
    helps += [getattr(p, "help", None) or "" for c in commands for p in c.params]
    assert len(helps) > 100 and not [text for text in helps if re.search(r"\[[a-z]+\]", text)]


class TestStart:
    def test_helps_and_weights_never_load_torch(self):
        commands = [
            ["--help"], ["-h"], ["--version"], ["weights", "list"], ["weights", "verify"],
            ["weights", "path", "photo"], ["weights", "pull", "photo"], ["denoise", "--help"],
            ["fit", "-h"], ["submit", "-h"],
        ]  # fmt: skip
        code = (
            "import json, sys\n"
            "from amsnet_cli.cli.app import app\n"
            "for args in json.loads(sys.argv[1]):\n"
            "    try: app(args)\n"
            "    except SystemExit as end: assert not end.code, args\n"
            "    assert not {'torch', 'pyvips', 'numpy'} & set(sys.modules), args\n"
        )
        call = [sys.executable, "-c", code, json.dumps(commands)]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_version(self, amsnet):
        assert amsnet("--version").stdout == f"amsnet {__version__}\n"


class TestDenoise:
    def test_straight_after_the_install(self, amsnet, noisy_png, tmp_path, monkeypatch):
        monkeypatch.setenv("AMSNET_OFFLINE", "1")
        result = amsnet("denoise", noisy_png, "-o", tmp_path / "clean.png")
        assert result.exit_code == 0, result.stderr
        assert result.stdout == f"{tmp_path / 'clean.png'}\n"
        assert "192x160, 8 bit, photo" in result.stderr
        assert read_photo(tmp_path / "clean.png").pixels.shape == (160, 192, 3)

    def test_a_16_bit_png_keeps_depth_profile_orientation_and_metadata(
        self, amsnet, tmp_path, noisy_crop
    ):
        before = Photo(
            pixels=noisy_crop.astype(np.uint16) * 257, icc=srgb_profile(), exif=exif_block(6),
            xmp=XMP, orientation=6,
        )  # fmt: skip
        write_photo(before, tmp_path / "a.png")
        assert amsnet("denoise", tmp_path / "a.png", "-o", tmp_path / "b.png").exit_code == 0
        after = read_photo(tmp_path / "b.png")
        assert after.pixels.dtype == np.uint16
        assert (after.icc, after.xmp, after.orientation) == (before.icc, before.xmp, 6)
        assert after.exif[8:].startswith(before.exif[8:]), "the software note goes behind"
        assert not np.array_equal(after.pixels, before.pixels)

    def test_transparency_and_grey_come_through(self, amsnet, tmp_path, noisy_crop):
        alpha = np.arange(160 * 192, dtype=np.uint32).reshape(160, 192).astype(np.uint8)
        write_photo(Photo(pixels=noisy_crop[..., :1], alpha=alpha), tmp_path / "a.png")
        assert amsnet("denoise", tmp_path / "a.png", "-o", tmp_path / "b.png").exit_code == 0
        after = read_photo(tmp_path / "b.png")
        assert after.pixels.shape == (160, 192, 1)
        assert np.array_equal(after.alpha, alpha)

    def test_same_seed_same_bytes_from_any_folder(self, amsnet, noisy_png, tiny_model, tmp_path):
        here, elsewhere = tmp_path / "here.png", tmp_path / "elsewhere.png"
        assert amsnet("denoise", noisy_png, "-o", here, "-w", tiny_model).exit_code == 0
        done = command(
            "denoise", noisy_png, "-o", elsewhere, "-w", tiny_model, cwd="/",
            env={**os.environ, "LC_ALL": "C", "PYTHONHASHSEED": "1",
                 "PYTHONPATH": str(Path(__file__).parents[1])},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert here.read_bytes() == elsewhere.read_bytes()

    def test_inputs_are_never_overwritten_unless_told(self, amsnet, noisy_png, tiny_model):
        before = noisy_png.read_bytes()
        for out in (noisy_png, noisy_png.parent):
            result = amsnet("denoise", noisy_png, "-o", out, "-w", tiny_model)
            assert result.exit_code == 1
            assert "overwrite" in result.stderr and result.stderr.count("\n") == 1
            assert noisy_png.read_bytes() == before
        assert amsnet("denoise", noisy_png, "-o", noisy_png, "-w", tiny_model, "-f").exit_code == 0
        assert noisy_png.read_bytes() != before

    def test_many_go_into_a_folder_and_one_bad_file_stops_nothing(
        self, amsnet, noisy_png, tiny_model, tmp_path
    ):
        bad = tmp_path / "IMG[/]x.png"
        bad.parent.mkdir()
        bad.write_text("not a picture")
        other = tmp_path / "other.jpg"
        write_photo(read_photo(noisy_png), other)
        out = tmp_path / "out"
        result = amsnet("denoise", bad, noisy_png, other, "-o", out, "-w", tiny_model)
        assert result.exit_code == 3
        assert sorted(p.name for p in out.iterdir()) == ["noisy.png", "other.jpg"]
        assert result.stdout.splitlines() == [str(out / "noisy.png"), str(out / "other.jpg")]
        assert f"error: {bad}: not a picture" in result.stderr
        assert "2 of 3 photos denoised, 1 failed" in result.stderr

    def test_two_photos_of_one_name_are_refused_before_any_work(self, amsnet, noisy_png, tmp_path):
        twin = tmp_path / "deep" / "NOISY.png"
        twin.parent.mkdir()
        twin.write_bytes(noisy_png.read_bytes())
        result = amsnet("denoise", noisy_png, twin, "-o", tmp_path / "out")
        assert result.exit_code == 2 and "would both become" in result.stderr
        assert not (tmp_path / "out").exists()

    def test_less_depth_only_on_request(self, amsnet, tmp_path, noisy_crop, tiny_model):
        write_photo(Photo(pixels=noisy_crop.astype(np.uint16) * 257), tmp_path / "a.png")
        call = ["denoise", tmp_path / "a.png", "-o", tmp_path / "b.jpg", "-w", tiny_model]
        refused = amsnet(*call)
        assert refused.exit_code == 1 and "--depth 8" in refused.stderr
        assert amsnet(*call, "--depth", "8").exit_code == 0
        with Image.open(tmp_path / "b.jpg") as image:
            assert image.mode == "RGB"


class TestErrors:
    """One line, with what to try, and the right exit code."""

    @pytest.mark.parametrize(
        ("make", "code", "says"),
        [
            (lambda t: ["denoise", t / "missing.png"], 1, "no such file"),
            (lambda t: ["denoise", t / "empty.jpg"], 1, "empty"),
            (lambda t: ["denoise", t / "text.png"], 1, "not a picture"),
            (lambda t: ["denoise", t / "cut.jpg"], 1, "cut short"),
            (lambda t: ["denoise", t], 2, "name a folder"),
            (lambda t: ["denoise", t / "ok.png", "--crop", "0,0,999,9"], 1, "192x160"),
            (lambda t: ["denoise", t / "ok.png", "--crop", "1,2,3"], 2, "X,Y,WIDTH,HEIGHT"),
            (lambda t: ["denoise", t / "ok.png", "--max-memory", "much"], 2, "2G or 500M"),
            (lambda t: ["denoise", t / "ok.png", "--max-memory", "1M"], 5, "allow --max-memory"),
            (lambda t: ["denoise", t / "ok.png", "--name", "{stem}.gif"], 2, "{stem}_clean{ext}"),
            (lambda t: ["denoise", t / "ok.png", "--format", "gif"], 2, "use avif, bmp"),
            (lambda t: ["denoise", t / "ok.png", "--format", "tif"], 2, "leave out --format"),
            (lambda t: ["denoise", t / "ok.png", "--suffix", "_x"], 2, "leave out"),
            (
                lambda t: ["denoise", t / "ok.png", "--suffix", "x", "--name", "{stem}"],
                2,
                "exclude",
            ),
            (lambda t: ["denoise", t / "ok.png", "-f", "--skip-existing"], 2, "exclude"),
            (lambda t: ["denoise", t / "ok.png", "--report", t / "x.txt"], 1, "add .html"),
            (
                lambda t: ["denoise", t / "ok.png", "--report", t / "no" / "x.html"],
                1,
                "existing folder",
            ),
            (lambda t: ["denoise", t / "ok.png", "-w", "nothing"], 4, "there are: photo"),
            (lambda t: ["denoise", t / "ok.png", "-w", t / "text.png"], 4, "not an amsnet model"),
            (lambda t: ["denoise", t / "ok.png", "--device", "cuda:99"], 5, "no device cuda:99"),
            (lambda t: ["denoise", t / "ok.png", "--tile", "big"], 2, "--tile big"),
            (lambda t: ["denoise", t / "ok.png", "--depth", "12"], 2, "--depth 12"),
            (lambda t: ["denoise", t / "ok.png", "--strength", "3"], 2, "not between 0 and 2"),
            (lambda t: ["evaluate", t, "--strength", "much"], 2, "not between 0 and 2"),
            (lambda t: ["fit", t / "none"], 1, "no photos"),
            (lambda t: ["fit", t / "missing"], 1, "no such folder"),
            (lambda t: ["fit", t, "--from-scratch", "-w", "photo"], 2, "exclude each other"),
            (lambda t: ["fit", t, "-o", t / "m.pth"], 2, "add .safetensors"),
            (lambda t: ["evaluate", t / "none", t], 1, "no photos"),
            (lambda t: ["weights", "path", "nothing"], 4, "there are: photo"),
            (lambda t: ["weights", "pull", "nothing"], 4, "there are: photo"),
        ],
    )
    def test_line_and_code(self, amsnet, tmp_path, noisy_png, make, code, says):
        (tmp_path / "none").mkdir()
        (tmp_path / "empty.jpg").touch()
        (tmp_path / "text.png").write_text("hello")
        (tmp_path / "ok.png").write_bytes(noisy_png.read_bytes())
        write_photo(read_photo(noisy_png), tmp_path / "cut.jpg")
        (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:5000])
        args = make(tmp_path)
        if args[0] == "denoise":
            args += ["-o", tmp_path / "out.png"]
        result = amsnet(*args)
        assert result.exit_code == code, result.stderr
        assert says in result.stderr
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
        assert result.stdout == ""
        assert not (tmp_path / "out.png").exists()

    @pytest.mark.skipif(os.name != "posix" or not os.access("/proc", os.R_OK), reason="needs /proc")
    def test_a_folder_that_takes_no_files(self, amsnet, noisy_png):
        result = amsnet("denoise", noisy_png, "-o", "/proc/clean.png")
        assert result.exit_code == 1
        assert "/proc" in result.stderr and result.stderr.count("\n") == 1

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
    def test_a_read_only_folder(self, amsnet, noisy_png, tmp_path):
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
        result = amsnet("denoise", noisy_png, "-o", folder / "clean.png")
        assert result.exit_code == 1 and "read-only" in result.stderr

    def test_tracebacks_only_on_request(self, amsnet, tmp_path, monkeypatch):
        call = ["denoise", tmp_path / "missing.png", "-o", tmp_path / "x.png"]
        assert "Traceback" not in amsnet(*call).stderr
        monkeypatch.setenv("AMSNET_DEBUG", "1")
        assert "Traceback" in amsnet(*call).stderr


class TestFit:
    QUICK = ("--steps", 2, "--batch", 2, "--patch-size", 80)

    @pytest.fixture
    def photos(self, tmp_path, noisy_crop) -> Path:
        folder = tmp_path / "my photos"
        folder.mkdir()
        write_photo(Photo(pixels=noisy_crop), folder / "a.png")
        return folder

    def test_is_named_like_the_folder_and_ready_for_use(self, amsnet, photos, tmp_path):
        result = amsnet("fit", photos, "--from-scratch", *self.QUICK)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == f"{models_dir() / 'my photos.safetensors'}\n"
        assert "amsnet denoise PHOTO -o CLEAN -w 'my photos'" in result.stderr
        assert "my photos" in amsnet("weights", "list").stdout
        clean = tmp_path / "clean.png"
        assert amsnet("denoise", photos / "a.png", "-o", clean, "-w", "my photos").exit_code == 0
        again = amsnet("fit", photos, "--from-scratch", *self.QUICK)
        assert again.exit_code == 1 and "--force" in again.stderr
        assert amsnet("fit", photos, "--from-scratch", *self.QUICK, "--force").exit_code == 0

    def test_ctrl_c_saves_and_says_how_to_resume(self, photos, home):
        args = ["fit", str(photos), "--from-scratch", "--steps", "100000", "--patch-size", "40"]
        fit = subprocess.Popen(
            [*AS_COMMAND, *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while not (line := fit.stderr.readline()).startswith("step"):
            assert line, "ended before the first step"
        fit.send_signal(signal.SIGINT)
        stdout, stderr = fit.communicate(timeout=180)
        assert fit.returncode == 130, stderr
        assert Path(stdout.strip()).is_file()
        assert f"amsnet {shlex.join(args)} --resume\n" in stderr and "Traceback" not in stderr
        names = sorted(p.name for p in models_dir().iterdir())
        assert names == ["my photos.safetensors", "my photos.safetensors.resume"]

    def test_signals_within_a_second_ask_once_and_a_later_one_interrupts(self, monkeypatch):
        now = 10.0
        monkeypatch.setattr("amsnet_cli.cli.console.time.monotonic", lambda: now)
        with stop_requests() as stopped:
            assert not stopped()
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            assert stopped()
            now += 2
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    def test_starting_over_does_not_overwrite_an_interrupted_fit(self, amsnet, photos):
        models_dir().mkdir(parents=True)
        state = models_dir() / "my photos.safetensors.resume"
        state.touch()  # as kill -9 leaves it, without a model
        result = amsnet("fit", photos, *self.QUICK)
        assert result.exit_code == 1
        assert "--resume" in result.stderr and "--force" in result.stderr
        assert amsnet("fit", photos, "--resume", *self.QUICK).exit_code == 1, "damaged"
        assert state.exists()

    def test_names_of_published_weights_are_taken(self, amsnet, tmp_path, noisy_png):
        folder = tmp_path / "photo"
        folder.mkdir()
        noisy_png.rename(folder / "a.png")
        result = amsnet("fit", folder, *self.QUICK)
        assert result.exit_code == 2 and "-o" in result.stderr


def test_weights_list_as_json(amsnet):
    rows = json.loads(amsnet("weights", "list", "--json").stdout)
    assert [r["name"] for r in rows if r["default"]] == ["photo"]


def test_the_page_of_commands_is_up_to_date():
    root = Path(__file__).parents[1]
    made = subprocess.run(
        [sys.executable, root / "docs" / "make_cli.py"],
        check=True, capture_output=True, text=True, encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONUTF8": "1"},
    )  # fmt: skip
    page = (root / "docs" / "cli.md").read_text("utf-8")
    assert made.stdout == page, "run: python docs/make_cli.py > docs/cli.md"
