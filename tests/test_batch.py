from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from amsnet_cli.batch.job import Job
from amsnet_cli.batch.naming import Naming
from amsnet_cli.batch.plan import plan_jobs
from amsnet_cli.batch.run import photos_ahead, run_jobs
from amsnet_cli.cli import photo_steps
from amsnet_cli.cli.app import app
from amsnet_cli.errors import BugError, DeviceError, OutputError, PhotoError, UsageError
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import write_photo


def touch(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return [root / name for name in names]


def pairs(plan, root: Path) -> dict[str, str]:
    return {
        j.source.relative_to(root).as_posix(): j.target.relative_to(root).as_posix()
        for j in plan.jobs
    }


class TestNaming:
    @pytest.mark.parametrize(
        ("naming", "source", "result"),
        [
            (Naming(), "a/IMG.JPG", "IMG.JPG"),
            (Naming(), "a/IMG.CR2", "IMG.tif"),
            (Naming(format="png"), "a/x.y.jpg", "x.y.png"),
            (Naming(template="{stem}_clean{ext}"), "a/x.jpg", "x_clean.jpg"),
            (Naming(template="{folder} {name}{ext}"), "card/x.NEF", "card x.NEF.tif"),
            (Naming(template="{stem}.webp"), "a/[b]{c}.jpg", "[b]{c}.webp"),
        ],
    )
    def test_by_template(self, naming, source, result):
        assert naming.name(Path(source)) == result

    @pytest.mark.parametrize(
        "template",
        ["x{ext}", "{stem", "{}{ext}", "{0}", "{stem.a}{ext}", "{other}{stem}{ext}", "{stem}",
         "../{stem}{ext}", "a/{stem}{ext}", "{stem:d}{ext}", ""],
    )  # fmt: skip
    def test_only_of_what_names_every_photo(self, template):
        with pytest.raises(UsageError, match="--name"):
            Naming(template=template)


class TestPlan:
    def test_the_tree_is_kept_below_the_output(self, tmp_path):
        touch(tmp_path, "card/a.jpg", "card/x/b.png", "card/x/y/c.CR2", "card/.x/d.jpg", "e.jpg")
        plan = plan_jobs([tmp_path / "card", tmp_path / "e.jpg"], tmp_path / "out", recursive=True)
        assert pairs(plan, tmp_path) == {
            "card/a.jpg": "out/a.jpg", "card/x/b.png": "out/x/b.png",
            "card/x/y/c.CR2": "out/x/y/c.tif", "e.jpg": "out/e.jpg",
        }  # fmt: skip
        assert not (tmp_path / "out").exists(), "planning changes nothing"

    def test_below_folders_only_on_request(self, tmp_path):
        touch(tmp_path, "card/a.jpg", "card/x/b.png", "deep/x/c.png")
        plan = plan_jobs([tmp_path / "card"], tmp_path / "out")
        assert pairs(plan, tmp_path) == {"card/a.jpg": "out/a.jpg"}
        with pytest.raises(PhotoError, match="--recursive"):
            plan_jobs([tmp_path / "deep"], tmp_path / "out")

    def test_beside_the_photos(self, tmp_path):
        touch(tmp_path, "card/a.jpg", "card/x/b.png")
        plan = plan_jobs(
            [tmp_path / "card"], None, naming=Naming(template="{stem}_c{ext}"), recursive=True
        )
        assert pairs(plan, tmp_path) == {
            "card/a.jpg": "card/a_c.jpg", "card/x/b.png": "card/x/b_c.png",
        }  # fmt: skip

    def test_an_output_within_the_input_is_no_input(self, tmp_path):
        touch(tmp_path, "a.jpg", "clean/a.jpg", "clean/x/b.jpg")
        plan = plan_jobs([tmp_path], tmp_path / "clean", recursive=True, skip_existing=True)
        assert pairs(plan, tmp_path) == {"a.jpg": "clean/a.jpg"}
        assert plan.jobs[0].skip

    def test_a_photo_named_twice_is_done_once(self, tmp_path, monkeypatch):
        touch(tmp_path, "card/a.jpg")
        monkeypatch.chdir(tmp_path)
        again = [tmp_path / "card", Path("card/a.jpg"), tmp_path / "card" / ".." / "card" / "a.jpg"]
        assert len(plan_jobs(again, tmp_path / "out").jobs) == 1

    @pytest.mark.parametrize(
        "names",
        [
            ("a/x.jpg", "b/x.jpg"), ("a/x.jpg", "b/X.JPG"), ("a/x.CR2", "a/x.tif"),
            ("a/é.jpg", "b/" + unicodedata.normalize("NFD", "é.jpg")),
            ("a/straße.jpg", "b/STRASSE.jpg"),
        ],
    )  # fmt: skip
    def test_two_into_one_are_refused_on_any_file_system(self, tmp_path, names):
        for force in (False, True):
            with pytest.raises(UsageError, match="would both become"):
                plan_jobs(touch(tmp_path, *names), tmp_path / "out", force=force)

    @given(st.lists(st.sampled_from(["a.jpg", "A.jpg", "b.png", "b.CR2", "b.tif", "c/a.jpg"])))
    def test_no_two_jobs_share_a_target(self, names):
        try:
            jobs = plan_jobs([Path("/none", n) for n in names], Path("/none/out")).jobs
        except UsageError:
            return
        targets = {str(j.target).casefold() for j in jobs}
        assert len(targets) == len(jobs) == len(set(names))

    def test_existing_results_are_refused_skipped_or_replaced(self, tmp_path):
        sources = touch(tmp_path, "a.jpg", "b.jpg")
        touch(tmp_path, "out/a.jpg")
        with pytest.raises(OutputError, match="already exists.*--skip-existing"):
            plan_jobs(sources, tmp_path / "out")
        skipping = plan_jobs(sources, tmp_path / "out", skip_existing=True)
        assert [j.skip for j in skipping.jobs] == [True, False]
        assert not any(j.skip for j in plan_jobs(sources, tmp_path / "out", force=True).jobs)

    def test_results_of_earlier_runs_are_no_photos(self, tmp_path):
        touch(tmp_path, "a.jpg", "a_c.jpg", "b.jpg")
        naming = Naming(template="{stem}_c{ext}")
        plan = plan_jobs([tmp_path], tmp_path, naming=naming, skip_existing=True)
        assert pairs(plan, tmp_path) == {"a.jpg": "a_c.jpg", "b.jpg": "b_c.jpg"}
        assert [j.skip for j in plan.jobs] == [True, False]
        assert plan.excluded == [tmp_path / "a_c.jpg"]
        for force in (False, True):
            with pytest.raises(UsageError, match="and the result of"):
                plan_jobs([tmp_path], tmp_path, naming=naming, force=force)

    def test_a_camera_s_jpeg_is_not_the_raw_s_result(self, tmp_path):
        touch(tmp_path, "IMG.CR2", "IMG.jpg")
        with pytest.raises(UsageError):
            plan_jobs([tmp_path], tmp_path, naming=Naming(format="jpg"), force=True)


class TestInputsAreSafe:
    def test_in_place_only_by_force(self, tmp_path):
        (photo,) = touch(tmp_path, "x/a.jpg")
        other_way = tmp_path / "x" / ".." / "x"
        for options in ({}, {"skip_existing": True}):
            with pytest.raises(OutputError, match="would be overwritten"):
                plan_jobs([photo], other_way, **options)
        assert plan_jobs([photo], other_way, force=True).jobs[0].target.samefile(photo)

    def test_a_linked_folder_is_the_folder(self, tmp_path):
        (photo,) = touch(tmp_path, "x/a.jpg")
        (tmp_path / "link").symlink_to(tmp_path / "x")
        with pytest.raises(OutputError, match="would be overwritten"):
            plan_jobs([photo], tmp_path / "link")

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    @pytest.mark.parametrize("force", [False, True])
    def test_no_link_to_a_photo_is_written_to(self, tmp_path, link, force):
        first, second = touch(tmp_path, "a.jpg", "b.jpg")
        (tmp_path / "out").mkdir()
        link(second, tmp_path / "out" / "a.jpg")
        with pytest.raises(OutputError, match="is a link to the photo"):
            plan_jobs([first, second], tmp_path / "out", force=force)

    def test_a_link_that_leads_nowhere_exists(self, tmp_path):
        (photo,) = touch(tmp_path, "a.jpg")
        (tmp_path / "b.jpg").symlink_to("nowhere")
        with pytest.raises(OutputError, match="already exists"):
            plan_jobs([photo], tmp_path / "b.jpg", into_folder=False)

    def test_neither_folders_nor_devices_are_replaced(self, tmp_path):
        (photo,) = touch(tmp_path, "a.jpg")
        (tmp_path / "b.jpg").mkdir()
        os.mkfifo(tmp_path / "c.jpg")
        for name, kind in (("b.jpg", "folder"), ("c.jpg", "not a regular file")):
            with pytest.raises(OutputError, match=kind):
                plan_jobs([photo], tmp_path / name, into_folder=False, force=True)

    def test_a_name_too_long_is_an_error(self, tmp_path):
        (photo,) = touch(tmp_path, "a" * 250 + ".jpg")
        with pytest.raises(OutputError, match="too long"):
            plan_jobs([photo], tmp_path, naming=Naming(template="{stem}_clean{ext}"))


class TestRun:
    PHOTO = Photo(pixels=np.zeros((2, 3, 3), np.uint8))

    def jobs(self, count: int) -> list[Job]:
        return [Job(source=Path(f"{i}.png"), target=Path(f"/none/{i}.png")) for i in range(count)]

    @pytest.mark.parametrize("threads", [0, 1, 3])
    def test_outcomes_come_in_order_and_a_bad_photo_stops_nothing(self, threads):
        written = []

        def read(job):
            if job.source.stem == "3":
                raise PhotoError("bad")
            return self.PHOTO

        def work(job, photo):
            if job.source.stem == "5":
                raise DeviceError("too large")
            return photo, job.source.stem

        outcomes = list(
            run_jobs(
                self.jobs(9), read=read, work=work, threads=threads,
                write=lambda job, photo: written.append(job.source.stem),
            )
        )  # fmt: skip
        assert [o.job for o in outcomes] == self.jobs(9)
        assert [o.job.source.stem for o in outcomes if o.status == "failed"] == ["3", "5"]
        assert sorted(written) == ["0", "1", "2", "4", "6", "7", "8"]
        assert outcomes[0].size == (3, 2) and outcomes[0].depth == 8
        assert [o.info for o in outcomes if o.status == "done"] == list("0124678")

    @pytest.mark.parametrize("threads", [0, 1, 2])
    def test_no_more_photos_are_held_than_asked_for(self, threads):
        alive, most, lock = 0, 0, threading.Lock()

        def count(change):
            nonlocal alive, most
            with lock:
                alive += change
                most = max(most, alive)

        def read(job):
            count(1)
            return self.PHOTO

        for _ in run_jobs(
            self.jobs(20), read=read, work=lambda job, photo: (photo, None),
            write=lambda job, photo: count(-1), threads=threads,
        ):  # fmt: skip
            pass
        assert alive == 0 and most <= 2 * threads + 2

    def test_reading_and_writing_go_on_beside_the_work(self):
        """Each stage waits for the others: one after another would never end."""
        second_read, first_written = threading.Event(), threading.Event()

        def read(job):
            if job.source.stem == "1":
                second_read.set()
            return self.PHOTO

        def work(job, photo):
            if job.source.stem == "0":
                assert second_read.wait(20)
            elif job.source.stem == "2":
                assert first_written.wait(20)
            return photo, None

        def write(job, photo):
            first_written.set()

        outcomes = run_jobs(self.jobs(3), read=read, work=work, write=write, threads=1)
        assert [o.status for o in outcomes] == ["done"] * 3

    def test_fail_fast_leaves_the_rest(self):
        def read(job):
            if job.source.stem == "1":
                raise PhotoError("bad")
            return self.PHOTO

        outcomes = run_jobs(
            self.jobs(4), read=read, work=lambda job, photo: (photo, None),
            write=lambda job, photo: None, threads=0, fail_fast=True,
        )  # fmt: skip
        assert [o.status for o in outcomes] == ["done", "failed", "not_run", "not_run"]

    @pytest.mark.parametrize("threads", [0, 1])
    @pytest.mark.parametrize("step", ["read", "work", "write"])
    def test_a_bug_is_the_failure_of_its_photo(self, step, threads):
        def fail_on(name):
            def run(job, *args):
                if name == step and job.source.stem == "1":
                    raise ZeroDivisionError("one\ntwo")
                return {"read": self.PHOTO, "work": (self.PHOTO, None), "write": None}[name]

            return run

        outcomes = list(
            run_jobs(
                self.jobs(3), read=fail_on("read"), work=fail_on("work"), write=fail_on("write"),
                threads=threads,
            )
        )  # fmt: skip
        assert [o.status for o in outcomes] == ["done", "failed", "done"]
        assert isinstance(outcomes[1].error, BugError)
        assert isinstance(outcomes[1].error.__cause__, ZeroDivisionError)
        assert str(outcomes[1].error).startswith("1.png: a bug in amsnet: ZeroDivisionError (one t")
        assert "AMSNET_DEBUG=1" in str(outcomes[1].error)


@pytest.fixture
def card(tmp_path, noisy_crop) -> Path:
    crop = Photo(pixels=np.ascontiguousarray(noisy_crop[:40, :50]))
    for name in ("a.png", "x/b.jpg", "x/y/c.tif"):
        (tmp_path / "card" / name).parent.mkdir(parents=True, exist_ok=True)
        write_photo(crop, tmp_path / "card" / name)
    return tmp_path / "card"


@pytest.mark.parametrize(
    ("device", "cores", "gigabytes", "ahead"),
    [("cpu", 16, 100, 1), ("cuda", 16, 100, 4), ("cuda", 4, 100, 2), ("mps", 8, 2.5, 2),
     ("cuda", 1, 0.1, 1)],
)  # fmt: skip
def test_beside_a_gpu_the_cores_read_and_write_as_memory_allows(device, cores, gigabytes, ahead):
    assert photos_ahead(device, cores=cores, free=int(gigabytes * 1e9)) == ahead


class TestCommand:
    def test_a_tree(self, amsnet, card, tiny_model):
        out = card.parent / "out"
        call = ["denoise", "-r", card, "-o", out, "-w", tiny_model]
        result = amsnet(*call)
        assert result.exit_code == 0, result.stderr
        expected = [out / "a.png", out / "x" / "b.jpg", out / "x" / "y" / "c.tif"]
        assert result.stdout.splitlines() == list(map(str, expected))
        assert all(path.is_file() for path in expected)
        assert "3 of 3 photos denoised" in result.stderr
        times = [path.stat().st_mtime_ns for path in expected]
        refused = amsnet(*call)
        assert refused.exit_code == 1 and "and 2 more results" in refused.stderr
        expected[1].unlink()
        again = amsnet(*call, "--skip-existing")
        assert again.exit_code == 0 and again.stdout == f"{expected[1]}\n"
        assert "1 of 3 photos denoised, 2 skipped" in again.stderr
        assert [p.stat().st_mtime_ns for p in expected][::2] == times[::2]
        assert "0 of 3 photos denoised, 3 skipped" in amsnet(*call, "--skip-existing").stderr

    def test_suffix_and_format_without_an_output(self, amsnet, card, tiny_model):
        result = amsnet(
            "denoise", "-r", card, "--suffix", "_c", "--format", "png", "-w", tiny_model, "-q"
        )
        assert result.exit_code == 0 and result.stderr == ""
        for name in ("a_c.png", "x/b_c.png", "x/y/c_c.png"):
            with Image.open(card / name) as image:
                assert image.format == "PNG"
        nowhere = amsnet("denoise", card)
        assert nowhere.exit_code == 2 and "-o OUT" in nowhere.stderr

    def test_dry_run_changes_nothing(self, amsnet, card):
        (card / "x" / "gone.png").symlink_to("nowhere")
        before = sorted(card.parent.rglob("*"))
        out = card.parent / "out"
        result = amsnet("denoise", "-r", card, "-o", out, "--dry-run", "--report", out / "x.html")
        assert result.exit_code == 3
        assert f"{card / 'x' / 'b.jpg'} -> {out / 'x' / 'b.jpg'}" in result.stdout.splitlines()
        assert "gone.png: cannot be read" in result.stderr
        assert sorted(card.parent.rglob("*")) == before

    def test_dry_run_never_loads_torch(self, card):
        code = (
            "import sys; from amsnet_cli.cli.app import main\n"
            "try: main()\nfinally: assert 'torch' not in sys.modules\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, "denoise", "-nr", card, "-o", "out"],
            capture_output=True, check=False, cwd=card.parent,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def test_json_has_an_object_for_each_photo(self, amsnet, card, tiny_model, noisy_crop):
        (card / "bad.png").write_text("no picture")
        write_photo(Photo(pixels=noisy_crop), card / "large.png")
        out = card.parent / "out"
        (out / "x").mkdir(parents=True)
        (out / "x" / "b.jpg").touch()
        call = ["denoise", "-r", card, "-o", out, "-w", tiny_model, "--json", "--skip-existing"]
        planned = [json.loads(line) for line in amsnet(*call, "-n").stdout.splitlines()]
        assert [row["status"] for row in planned] == ["planned"] * 3 + ["skipped", "planned"]
        result = amsnet(*call)
        assert result.exit_code == 3
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert [row["status"] for row in rows] == ["done", "failed", "done", "skipped", "done"]
        assert [row["input"] for row in rows] == [row["input"] for row in planned]
        failed, large = rows[1], rows[2]
        assert "not a picture" in failed["error"] and failed["width"] is None
        assert large["output"] == str(out / "large.png") and large["seconds"] > 0
        assert (large["width"], large["height"], large["error"]) == (192, 160, None)
        assert large["noise_before"] > 15
        names = [row["weights"] for row in rows]
        assert names == [str(tiny_model), None, str(tiny_model), None, str(tiny_model)]
        assert {row["weights"] for row in planned} == {None}

    def test_a_bug_of_one_photo(self, amsnet, card, tiny_model, monkeypatch):
        read = photo_steps.read_mosaic_or_photo
        monkeypatch.setattr(
            photo_steps,
            "read_mosaic_or_photo",
            lambda path, *more: {}[path] if path.stem == "b" else read(path, *more),
        )
        call = ["denoise", "-r", card, "-w", tiny_model, "--json", "-f", "-o", card.parent / "out"]
        result = amsnet(*call)
        assert result.exit_code == 3 and "2 of 3 photos denoised, 1 failed" in result.stderr
        (line,) = [s for s in result.stderr.splitlines() if s.startswith("error: ")]
        assert "b.jpg: a bug in amsnet: KeyError" in line and "AMSNET_DEBUG=1 shows" in line
        rows = [json.loads(row) for row in result.stdout.splitlines()]
        assert [row["status"] for row in rows] == ["done", "failed", "done"]
        assert rows[1]["error"] in line and "Traceback" not in result.stderr
        monkeypatch.setenv("AMSNET_DEBUG", "1")
        assert "Traceback (most recent call last)" in amsnet(*call).stderr

    def test_all_failed(self, amsnet, tmp_path, tiny_model):
        for name in ("a.png", "b.png", "c.png"):
            (tmp_path / name).write_text("no picture")
        call = ["denoise", tmp_path, "-o", tmp_path / "out", "-w", tiny_model]
        result = amsnet(*call)
        assert result.exit_code == 1 and "0 of 3 photos denoised, 3 failed" in result.stderr
        fast = amsnet(*call, "--fail-fast", "--jobs", "0")
        assert fast.exit_code == 1 and "1 failed, 2 not run" in fast.stderr

    def test_crop_writes_only_the_region(self, amsnet, noisy_png, tiny_model, tmp_path):
        out = tmp_path / "part.png"
        result = amsnet("denoise", noisy_png, "-o", out, "-w", tiny_model, "--crop", "8,16,40,30")
        assert result.exit_code == 0 and "40x30" in result.stderr
        assert read_photo(out).pixels.shape == (30, 40, 3)


class TestPassedOver:
    def test_files_are_counted_by_suffix(self, amsnet, card, tiny_model):
        files = ("x/a.TXT", "b.txt", "film.mov", "README", "b.jpg.xmp", ".hidden", "Thumbs.db")
        touch(card, *files, "x/.git/config")
        out = card / "out"
        call = ["denoise", "-r", card, "-o", out, "-w", tiny_model]
        result = amsnet(*call)
        assert result.exit_code == 0, result.stderr
        line = "5 files passed over: 2 .txt, 1 without a suffix, 1 .xmp, 1 .mov"
        assert line in result.stderr.splitlines()
        touch(out, "not_of_the_photos.txt")
        rows = [json.loads(line) for line in amsnet(*call, "--json", "-f").stdout.splitlines()]
        others = {row["input"]: row["reason"] for row in rows if row["status"] == "passed_over"}
        unknown, sidecar = "not a format that can be read", "beside a photo"
        assert others == {
            str(card / "README"): unknown, str(card / "b.jpg.xmp"): sidecar,
            str(card / "b.txt"): unknown, str(card / "film.mov"): unknown,
            str(card / "x" / "a.TXT"): unknown,
        }  # fmt: skip
        assert [row["status"] for row in rows].count("done") == 3
        assert "passed over" not in amsnet(*call, "-q", "-f").stderr

    def test_nothing_is_said_of_nothing(self, amsnet, card, tiny_model):
        call = ["denoise", card, card / "a.png", "-o", card.parent / "out", "-w", tiny_model]
        assert "passed over" not in amsnet(*call).stderr

    def test_a_folder_of_other_files_says_what_is_in_it(self, amsnet, tmp_path):
        touch(tmp_path, "in/a.docx", "in/b.docx")
        result = amsnet("denoise", tmp_path / "in", "-o", tmp_path / "out")
        assert result.exit_code == 1 and "no photos in it, but 2 .docx" in result.stderr


class TestNames:
    @pytest.mark.parametrize(
        "name", ["-x.png", "[a].png", "IMG[/]x.png", "a b'\"$.png", "é.png", "\x1b[31mred.png",
                 "new\nline.png", "..png", "日本.PNG"],
    )  # fmt: skip
    def test_any(self, amsnet, tmp_path, tiny_model, noisy_crop, name, monkeypatch):
        path = tmp_path / "in" / name.replace("/", "∕")
        path.parent.mkdir()
        write_photo(Photo(pixels=noisy_crop[:20, :20]), tmp_path / "in" / "x.png")
        (tmp_path / "in" / "x.png").rename(path)
        monkeypatch.chdir(path.parent)
        result = amsnet("denoise", "-o", tmp_path / "out", "-w", tiny_model, "--", path.name)
        assert result.exit_code == 0, result.stderr
        assert (tmp_path / "out" / path.name).is_file()
        assert result.stdout == f"{tmp_path / 'out' / path.name}\n"
        assert "\x1b" not in result.stderr and result.stderr.count("\n") == 1

    def test_that_no_file_can_have(self, amsnet, tmp_path, noisy_png, tiny_model):
        for name in ("a" * 300 + ".png", "x.png/y.png"):
            result = amsnet(
                "denoise",
                tmp_path / name,
                noisy_png,
                "-o",
                tmp_path / "out",
                "-w",
                tiny_model,
                "-f",
            )
            assert result.exit_code in (1, 3), result.stderr
            assert result.stderr.startswith("error: ")
            alone = amsnet("denoise", noisy_png, "-o", tmp_path / name, "-w", tiny_model)
            assert alone.exit_code == 1 and alone.stderr.count("\n") == 1

    @pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names are Unicode there")
    def test_that_are_no_text(self, amsnet, tmp_path, tiny_model, noisy_crop, monkeypatch):
        raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
        write_photo(Photo(pixels=noisy_crop[:20, :20]), tmp_path / "x.png")
        os.rename(tmp_path / "x.png", raw)  # noqa: PTH104
        monkeypatch.chdir(tmp_path)
        call = ["denoise", os.fsdecode(raw), "-o", "out", "-w", tiny_model]
        lines = amsnet(*call, "--report", "page.html")
        assert lines.exit_code == 0, lines.stderr
        assert lines.stdout_bytes == b"out/caf\xe9.png\n"
        as_json = amsnet(*call, "--json", "-f")
        assert os.fsencode(json.loads(as_json.stdout)["input"]) == raw
        assert Path(os.fsdecode(os.fsencode(tmp_path) + b"/out/caf\xe9.png")).is_file()
        assert "caf\ufffd.png" in (tmp_path / "page.html").read_text("utf-8")


class TestPipes:
    def through(self, content: bytes, *args: object) -> Result:
        return CliRunner().invoke(app, ["denoise", *map(str, args)], input=content)

    def test_from_stdin_to_stdout_in_its_own_format(self, card, tiny_model):
        for path, form in ((card / "a.png", "PNG"), (card / "x" / "b.jpg", "JPEG")):
            done = self.through(path.read_bytes(), "-", "-o", "-", "-w", tiny_model)
            assert done.exit_code == 0, done.stderr
            with Image.open(io.BytesIO(done.stdout_bytes)) as image:
                assert (image.format, image.size) == (form, (50, 40))

    def test_in_another_format(self, card, tiny_model):
        done = self.through(b"", card / "a.png", "-o", "-", "--format", "webp", "-w", tiny_model)
        with Image.open(io.BytesIO(done.stdout_bytes)) as image:
            assert image.format == "WEBP"

    def test_what_does_not_go(self, card, tiny_model):
        for content, args, code, says in (
            (b"", ["-", "-o", "-"], 1, "stdin: the file is empty"),
            (b"junk", ["-", "-o", "-", "--format", "png"], 1, "not a picture"),
            (b"", [card, "-o", "-"], 2, "stdout takes one photo"),
            (b"", [card / "a.png", "-o", "-", "--json"], 2, "cannot be used with '-o -'"),
        ):
            done = self.through(content, *args, "-w", tiny_model)
            assert done.exit_code == code, done.stderr
            assert says in done.stderr and done.stdout == ""
