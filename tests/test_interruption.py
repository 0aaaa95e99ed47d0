"""Runs that are cut off: really killed, on a full disk, or with their folder taken away.

Each run is a process of its own, forked from a server that has loaded the libraries already.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from amsnet_cli.atomic import clear_leftovers
from amsnet_cli.fitting import checkpoint
from amsnet_cli.fitting.checkpoint import checkpoint_path
from amsnet_cli.fitting.fit import fit
from amsnet_cli.fitting.options import FitOptions
from amsnet_cli.model import load_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")

SLOWLY = ("--repeats", "50")
"""So that a run continues for seconds after its first result."""
PART = re.compile(r"\.amsnet-[0-9a-f]{8}\.part")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["amsnet_cli.inference.denoise", "amsnet_cli.fitting.fit", __name__])


def command_line(args: list[str], output: str, ready, most_bytes: int | None) -> None:
    """Be the command `amsnet`; what it prints goes to a file."""
    with open(output, "w") as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if most_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # though these tests may run under nohup
    sys.argv = ["amsnet", *args]
    from amsnet_cli.__main__ import main

    ready.set()
    main()


@dataclass
class Card:
    """A folder of photos, where they go, and what has to come out."""

    root: Path
    model: Path
    right: dict[str, bytes] = field(default_factory=dict)

    def start(self, *args: str, most_bytes: int | None = None):
        ready = SERVER.Event()
        line = ["denoise", "-r", "card", "-o", "out", "-w", str(self.model), *args]
        os.chdir(self.root)
        run = SERVER.Process(
            target=command_line, args=(line, str(self.root / "said.txt"), ready, most_bytes)
        )
        run.start()
        assert ready.wait(180)
        return run

    def finish(self, *args: str, most_bytes: int | None = None) -> int:
        run = self.start(*args, most_bytes=most_bytes)
        run.join(180)
        return run.exitcode

    @property
    def said(self) -> str:
        return (self.root / "said.txt").read_text()

    def contents(self, folder: str) -> dict[str, bytes]:
        place = self.root / folder
        return {
            p.relative_to(place).as_posix(): p.read_bytes() for p in place.rglob("*") if p.is_file()
        }

    def check(self, originals: dict[str, bytes], *, parts: bool) -> dict[str, bytes]:
        """Nothing is lost or half there."""
        assert self.contents("card") == originals
        results = self.contents("out") if (self.root / "out").is_dir() else {}
        for name, content in results.items():
            if PART.fullmatch(Path(name).name):
                assert parts, f"{name} is left"
            else:
                assert content == self.right[name], f"{name} is not whole"
        return results


@pytest.fixture(scope="module")
def photos(tmp_path_factory, noisy_crop) -> Path:
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(6):
        path = root / f"{i % 2}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        shift = rng.integers(-3, 3, noisy_crop.shape)
        pixels = (noisy_crop.astype(int) * 257 + shift).clip(0, 65535).astype(np.uint16)
        write_photo(Photo(pixels=pixels), path)
    return root


EXPECTED: dict[str, bytes] = {}
"""What an undisturbed run writes."""


@pytest.fixture
def card(tmp_path, tiny_model, photos, monkeypatch) -> Card:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, tmp_path / "card")
    card = Card(root=tmp_path, model=tiny_model, right=EXPECTED)
    if not EXPECTED:
        assert card.finish("--seed", "1") == 0, card.said
        EXPECTED.update(card.contents("out"))
        assert len(EXPECTED) == 6
        shutil.rmtree(tmp_path / "out")
    return card


def kill_and_go_on(card: Card, kills: int, seed: int) -> None:
    """Kill runs at random moments, half of them while a file is written; let one end at times."""
    rng = np.random.default_rng(seed)
    originals = card.contents("card")
    started = time.monotonic()
    assert card.finish("--seed", "1") == 0
    whole = time.monotonic() - started
    # Before the command has begun, a signal ends the process itself; after its end Typer says 130.
    codes = {signal.SIGINT: {130, -2}, signal.SIGTERM: {143, 130, -15}, signal.SIGKILL: {-9}}
    interrupted = parts_left = 0
    for i in range(kills):
        number = list(codes)[i % 3]
        fresh = i % 6 < 5
        if fresh:
            shutil.rmtree(card.root / "out", ignore_errors=True)
        run = card.start("--seed", "1", "--skip-existing")
        if i % 2:
            deadline = time.monotonic() + whole
            while time.monotonic() < deadline and not list(card.root.glob("out/*/.amsnet-*")):
                pass
        else:
            time.sleep(rng.uniform(0.1, max(0.2, whole)))
        if run.is_alive():
            with suppress(ProcessLookupError):
                os.kill(run.pid, number)
        run.join(180)
        assert run.exitcode in codes[number] | {0}, f"{i}: {card.said}"
        assert "Traceback" not in card.said
        interrupted += run.exitcode != 0
        results = card.check(originals, parts=True)
        left = [card.root / "out" / name for name in results if name not in card.right]
        parts_left += len(left)
        if number != signal.SIGKILL and fresh:
            assert not left, "cleaned up before it went"
        for part in left:  # as if it were long ago
            os.utime(part, (1, 1))
        if i % 6 == 5:
            assert card.finish("--seed", "1", "--skip-existing") == 0, card.said
            assert card.check(originals, parts=False) == card.right
    print(f"{kills} kills, {interrupted} of them before the end, {parts_left} parts left")
    assert interrupted > kills / 4


@pytest.mark.parametrize("kills", [6, pytest.param(90, marks=pytest.mark.slow)])
def test_killed_at_random_moments(card, kills):
    kill_and_go_on(card, kills, seed=0)


def test_a_hangup_is_an_interruption_too(card):
    run = card.start(*SLOWLY)
    while run.is_alive() and not any((card.root / "out").rglob("*.*")):
        time.sleep(0.001)
    os.kill(run.pid, signal.SIGHUP)
    run.join(180)
    assert run.exitcode in (129, -1)


def fit_saving_often(folder: Path, output: Path, start: Path, ready) -> None:
    """Fit, or resume a fit, in a process that is about to be killed."""
    checkpoint.CHECKPOINT_SECONDS = 0.0
    options = FitOptions(preset="paper", steps=200, batch=1, patch_size=40, seed=1)
    resume = checkpoint_path(output).exists()
    ready.set()
    fit(folder, output, options, start=load_model(start, "tiny"), resume=resume)


@pytest.mark.slow
def test_a_killed_fit_resumes_to_the_same_bytes(tmp_path, noisy_crop, tiny_model):
    photos, whole, killed = (
        tmp_path / name for name in ("photos", "a.safetensors", "b.safetensors")
    )
    photos.mkdir()
    write_photo(Photo(pixels=noisy_crop), photos / "a.png")
    state = checkpoint_path(killed)

    def begin(output: Path):
        ready = SERVER.Event()
        run = SERVER.Process(target=fit_saving_often, args=(photos, output, tiny_model, ready))
        run.start()
        assert ready.wait(180)
        return run

    begin(whole).join(120)
    rng, reached = np.random.default_rng(0), [0]
    for _ in range(3):
        run = begin(killed)
        before = state.stat().st_mtime_ns if state.exists() else 0
        deadline = time.monotonic() + 180
        while not state.exists() or state.stat().st_mtime_ns == before:
            assert run.is_alive() and time.monotonic() < deadline
        time.sleep(rng.uniform(0, 0.3))
        os.kill(run.pid, signal.SIGKILL)
        run.join(180)
        assert run.exitcode == -signal.SIGKILL and not killed.exists()
        reached.append(torch.load(state, weights_only=True)["trainer"]["steps"])
    assert reached == sorted(set(reached)) and reached[-1] < 200
    begin(killed).join(120)
    assert killed.read_bytes() == whole.read_bytes()
    assert not state.exists()


def test_a_full_disk_leaves_nothing_half_written(card):
    originals = card.contents("card")
    small = np.full((20, 20, 3), 99, np.uint8)
    write_photo(Photo(pixels=small), card.root / "card" / "z.png")
    originals = card.contents("card")
    code = card.finish("--seed", "1", most_bytes=50_000)
    assert code == 3, card.said
    assert card.contents("card") == originals
    assert list(card.contents("out")) == ["z.png"]
    assert "File too large" in card.said and "1 of 7 photos denoised, 6 failed" in card.said


def test_a_full_disk_stops_the_rest(card):
    """On a file system of its own with room for two results."""
    (card.root / "out").mkdir()
    size = sum(map(len, card.right.values())) // 2
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "amsnet-test", str(card.root / "out")]
    try:
        made = subprocess.run(mount, capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"no mount here: {error}")
    if made.returncode:
        pytest.skip("only root may mount a small file system")
    originals = card.contents("card")
    try:
        assert card.finish("--seed", "1", "--jobs", "0") == 3, card.said
        done = card.check(originals, parts=False)
        assert 1 <= len(done) <= 3
        assert "No space left" in card.said
        assert f"{len(done)} of 6 photos denoised, 1 failed, {5 - len(done)} not run" in card.said
    finally:
        subprocess.run(["umount", str(card.root / "out")], check=True)
    assert card.finish("--seed", "1", "--skip-existing") == 0
    assert card.check(originals, parts=False) == card.right


def test_a_folder_that_goes_away_is_not_made_again(card):
    originals = card.contents("card")
    run = card.start(*SLOWLY)
    while run.is_alive() and not any((card.root / "out").rglob("*.*")):
        time.sleep(0.001)
    shutil.rmtree(card.root / "out")
    run.join(180)
    assert run.exitcode in (1, 3), card.said
    assert card.contents("card") == originals
    assert not (card.root / "out").exists()
    assert "Traceback" not in card.said and "No such file or directory" in card.said


def test_photos_that_disappear_are_named_and_the_others_denoised(card):
    run = card.start("--seed", "1", "--jobs", "0")
    while run.is_alive() and not any((card.root / "out").rglob("*.*")):
        time.sleep(0.001)
    shutil.rmtree(card.root / "card")
    run.join(180)
    assert run.exitcode == 3, card.said
    results = card.contents("out")
    assert results and all(card.right[name] == content for name, content in results.items())
    assert "Traceback" not in card.said and "no such file" in card.said
    assert f"{len(results)} of 6 photos denoised, {6 - len(results)} failed" in card.said


class TestOrdinaryUser:
    """Root may write and read everything, so runs of root give up that right."""

    @pytest.fixture
    def finish(self, card):
        command = [sys.executable, "-m", "amsnet_cli", "denoise", "-r", "card", "-o", "out"]
        if os.getuid() == 0:
            if not shutil.which("setpriv"):
                pytest.skip("only root here, and no setpriv to give up its rights")
            rights = "-dac_override,-dac_read_search"
            command = ["setpriv", "--bounding-set", rights, "--inh-caps", rights, *command]

        def run(*args: str) -> tuple[int, str]:
            done = subprocess.run(
                [*command, "-w", card.model, *args], cwd=card.root, check=False,
                capture_output=True, text=True,
            )  # fmt: skip
            assert "Traceback" not in done.stderr, done.stderr
            return done.returncode, done.stderr

        return run

    def test_a_read_only_folder(self, card, finish):
        (card.root / "out").mkdir(mode=0o555)
        code, said = finish()
        assert code == 1 and not card.contents("out"), said
        assert said.count("cannot make this folder (Permission denied)") == 6
        assert "0 of 6 photos denoised, 6 failed" in said

    def test_one_read_only_folder_of_two(self, card, finish):
        for name, mode in (("out", 0o755), ("out/0", 0o555), ("out/1", 0o755)):
            (card.root / name).mkdir(mode=mode)
        code, said = finish("--seed", "1")
        assert code == 3 and "3 of 6 photos denoised, 3 failed" in said, said
        assert sorted(card.contents("out")) == ["1/1.png", "1/3.png", "1/5.png"]
        assert said.count("out/0: the folder is read-only") == 3

    def test_photos_and_folders_that_may_not_be_read(self, card, finish):
        (card.root / "card" / "0" / "2.png").chmod(0)
        code, said = finish("--seed", "1")
        assert code == 3 and len(card.contents("out")) == 5, said
        assert "card/0/2.png: cannot be read (Permission denied)" in said
        (card.root / "card" / "0").chmod(0)
        code, said = finish("-f")
        assert (code, said) == (1, "error: card/0: cannot be read (Permission denied)\n")
        (card.root / "card" / "0").chmod(0o755)


def test_leftovers_of_long_ago_are_cleared_and_nothing_else(tmp_path):
    old, new = tmp_path / ".amsnet-0123abcd.part", tmp_path / ".amsnet-0123abce.part"
    other = tmp_path / ".amsnet-notes.part"
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (1, 1))
    clear_leftovers(tmp_path)
    assert not old.exists() and new.exists() and other.exists()
