"""Watched folders: photos that grow, go and come, and a process that is asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from amsnet_cli.batch.job import Job, Outcome
from amsnet_cli.batch.plan import plan_jobs
from amsnet_cli.batch.watch import Watch, WatchOptions
from amsnet_cli.errors import OutputError, PhotoError, UsageError
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from tests.test_batch import touch

QUICKLY = WatchOptions(settled_after=0.3, interval=0.05)


class Watched:
    """A watch in a thread that notes which photos come, in what state."""

    def __init__(self, folder: Path, status: str = "done") -> None:
        self.folder, self.status, self.ended = folder, status, False
        self.came: list[tuple[str, bytes]] = []
        self.said: list[str] = []
        self.failure: OutputError | None = None
        plan: Callable = lambda refuse: plan_jobs(  # noqa: E731
            [folder], folder.parent / "out", recursive=True, skip_existing=True,
            may_be_empty=True, refuse=refuse,
        )  # fmt: skip
        self.watch = Watch([folder], plan, lambda e: self.said.append(str(e)), QUICKLY)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        for batch in self.watch.batches(lambda: self.ended):
            for job in batch:
                self.came.append((job.source.name, job.source.read_bytes()))
                self.watch.finished(Outcome(job=job, status=self.status, error=self.failure))

    def wait_for(self, count: int) -> list[tuple[str, bytes]]:
        deadline = time.monotonic() + 60
        while len(self.came) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.4)  # that another could come
        return self.came

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True
        self.thread.join()


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_photos_come_once_they_have_stopped_growing(folder):
    touch(folder, "empty.jpg")
    (folder / "there.jpg").write_bytes(b"1")
    with Watched(folder) as watched:
        with (folder / "slow.jpg").open("wb", buffering=0) as file:
            for _ in range(10):
                file.write(b"2")
                time.sleep(0.1)
        (folder / "x").mkdir()
        (folder / "x" / "arrives.part").write_bytes(b"3")
        (folder / "x" / "arrives.part").rename(folder / "x" / "renamed.jpg")
        came = watched.wait_for(3)
    assert sorted(came) == [("renamed.jpg", b"3"), ("slow.jpg", b"2" * 10), ("there.jpg", b"1")]


def test_a_photo_that_failed_is_tried_again_when_it_changes(folder):
    (folder / "a.jpg").write_bytes(b"half")
    with Watched(folder, status="failed") as watched:
        assert watched.wait_for(1) == [("a.jpg", b"half")]
        (folder / "a.jpg").write_bytes(b"whole")
        assert watched.wait_for(2) == [("a.jpg", b"half"), ("a.jpg", b"whole")]


def test_a_card_may_go_and_come_back(folder):
    with Watched(folder) as watched:
        folder.rename(folder.with_name("away"))
        time.sleep(0.4)
        folder.with_name("away").rename(folder)
        (folder / "a.jpg").write_bytes(b"1")
        assert watched.wait_for(1) == [("a.jpg", b"1")]
    assert watched.said == [f"{folder}: is gone; waiting for it"]


def test_a_card_may_go_while_it_is_listed(folder):
    """Whoever lists it then says that there is no such folder, which is not what happened."""
    said = []

    def plan(refuse):
        folder.rmdir()
        raise PhotoError(f"{folder}: no such folder", "check the path")

    watch = Watch([folder], plan, said.append, QUICKLY)
    rounds = iter([False, True])
    assert list(watch.batches(lambda: next(rounds, True))) == []
    assert [str(line) for line in said] == [f"{folder}: is gone; waiting for it"]


def test_a_name_that_is_taken_stops_no_other(folder):
    for name in ("A.JPG", "a.jpg", "b.jpg"):
        (folder / name).write_bytes(b"1")
    with Watched(folder) as watched:
        came = [name for name, _ in watched.wait_for(2)]
    assert sorted(came) == ["A.JPG", "b.jpg"]
    assert len(watched.said) == 1 and "would both become" in watched.said[0]


def test_a_full_disk_ends_it(folder):
    (folder / "a.jpg").write_bytes(b"1")
    watched = Watched(folder, status="failed")
    watched.failure = OutputError("full")
    watched.failure.__cause__ = OSError(28, "No space left on device")
    watched.thread.join(20)
    assert not watched.thread.is_alive()


def test_only_folders_are_watched(tmp_path):
    with pytest.raises(PhotoError, match="not a folder to watch"):
        Watch([tmp_path / "none"], lambda refuse: None, print)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["in"], 2, "-o OUT"), (["in", "-o", "-"], 2, "-o OUT"), (["-", "-o", "out"], 2, "-o OUT"),
        (["in", "-o", "in"], 2, "is the folder that is watched"),
        (["in", "-o", "out", "--force"], 2, "--watch and --force exclude each other"),
        (["in", "-o", "out", "--report", "x.html"], 2, "--watch and --report exclude each other"),
        (["in", "-o", "out", "-n"], 2, "--watch and --dry-run exclude each other"),
        (["none", "-o", "out"], 1, "none: not a folder to watch"),
    ],
)  # fmt: skip
def test_what_does_not_suit_is_one_line(amsnet, folder, monkeypatch, arguments, code, says):
    monkeypatch.chdir(folder.parent)
    result = amsnet("denoise", "--watch", *arguments)
    assert result.exit_code == code and says in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_after_the_photo_in_hand(folder, tiny_model, noisy_crop, number):
    for i in range(9):
        write_photo(Photo(pixels=np.ascontiguousarray(noisy_crop)), folder / f"{i}.png")
    out = folder.parent / "out"
    command = [sys.executable, "-m", "amsnet_cli", "denoise", "--watch", folder, "-o", out,
               "-w", tiny_model, "--repeats", "20"]  # fmt: skip
    run = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not list(out.glob("*.png")):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.02)
    run.send_signal(number)
    said, notes = run.communicate(timeout=180)
    assert run.returncode == 0, notes
    assert f"watching {folder}" in notes and "Traceback" not in notes
    results = sorted(map(str, out.iterdir()))
    assert said.splitlines() == results and 1 <= len(results) < 9
    assert f"{len(results)} of " in notes


def test_jobs_that_were_not_run_come_again(folder):
    (folder / "a.jpg").write_bytes(b"1")
    with Watched(folder, status="not_run") as watched:
        assert len(watched.wait_for(3)) >= 3


def test_a_collision_at_a_time_raises_where_nobody_watches(folder):
    touch(folder, "a.jpg", "A.JPG")
    with pytest.raises(UsageError, match="would both become"):
        plan_jobs([folder], folder.parent / "out")
    refused: list[Job] = []
    plan = plan_jobs([folder], folder.parent / "out", refuse=lambda job, error: refused.append(job))
    assert len(plan.jobs) == len(refused) == 1
