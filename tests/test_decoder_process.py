"""Batches whose photos are decoded in processes of their own, some of which die of it."""

from __future__ import annotations

import array
import dataclasses
import fcntl
import pickle
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.decoder_process import DecoderProcesses, decoder_processes
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import decode
from amsnet_cli.photos.write import write_photo
from tests.test_round_trip import CASES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def decoders():
    decoders = DecoderProcesses()
    yield decoders
    decoders.close()


@pytest.fixture
def card(tmp_path) -> Path:
    """Three photos of more bytes than a pipe holds."""
    (tmp_path / "card").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        pixels = rng.integers(0, 256, (150, 200, 3), np.uint8)
        write_photo(Photo(pixels=pixels), tmp_path / "card" / name)
    return tmp_path / "card"


def children(process: psutil.Process) -> list[psutil.Process]:
    return [p for p in process.children() if "decoder_process" in " ".join(p.cmdline())]


def crash_on_the_next_photo(process: psutil.Process) -> threading.Thread:
    """Let a process die as by a fault in a library, once a photo is on its way to it."""

    def crash() -> None:
        waiting = array.array("i", [0])
        with Path(f"/proc/{process.pid}/fd/0").open("rb") as pipe:
            while not waiting[0]:
                fcntl.ioctl(pipe, termios.FIONREAD, waiting)
                time.sleep(0.001)
        process.send_signal(signal.SIGSEGV)
        process.resume()

    process.suspend()
    thread = threading.Thread(target=crash)
    thread.start()
    return thread


CRASH = """
import ctypes, sys
from pathlib import Path
from amsnet_cli.cli import crash
from amsnet_cli.cli.app import app

def decode(path, content):
    if b"crash" in content:
        ctypes.string_at(8)
    return read_as_ever(path, content)

read_as_ever, crash.decode = crash.decode, decode
app(sys.argv[1:])
"""


@pytest.mark.parametrize("crashes", [True, False])
def test_a_crash_on_a_single_photo_is_told(card, tiny_model, crashes):
    photo = card / "a {}.png"
    (card / "a.png").rename(photo)
    if crashes:
        with photo.open("ab") as file:
            file.write(b"crash")
    call = ["denoise", photo, "-o", card / "out.png", "-w", tiny_model, "-q"]
    done = subprocess.run(
        [sys.executable, "-c", CRASH, *map(str, call)], capture_output=True, text=True, check=False
    )
    if not crashes:
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert done.returncode == -signal.SIGSEGV and not (card / "out.png").exists()
    assert done.stderr == (
        f"error: {photo}: the library that decodes it crashed on it (segmentation fault); "
        "open it with another program and save it anew\n"
    )


def test_a_process_that_is_ended_tells_of_no_crash():
    code = (
        "import os, signal\nfrom pathlib import Path\n"
        "from amsnet_cli.cli.crash import crash_told\n"
        "with crash_told(Path('a.jpg')): os.kill(os.getpid(), signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM and not done.stderr


def test_a_crash_ends_no_batch(amsnet, card, tiny_model):
    photo = card / "a.png"
    decoder_processes().decode(photo, photo.read_bytes())  # One is there, and idle.
    killer = crash_on_the_next_photo(children(psutil.Process())[-1])
    out = card.parent / "out"
    result = amsnet("denoise", card, "-o", out, "-w", tiny_model)
    killer.join()
    assert result.exit_code == 3, result.stderr
    says = "card/a.png: the library that decodes it crashed on it (SIGSEGV)"
    assert says in result.stderr and "2 of 3 photos denoised, 1 failed" in result.stderr
    assert sorted(p.name for p in out.iterdir()) == ["b.png", "c.png"]
    assert amsnet("denoise", card, "-o", out, "-w", tiny_model, "--skip-existing").exit_code == 0


def test_one_that_died_while_idle_fails_no_photo(card, decoders):
    photo = card / "a.png"
    decoders.decode(photo, photo.read_bytes())
    idle = children(psutil.Process())[-1]
    idle.kill()
    psutil.wait_procs([idle])
    assert decoders.decode(photo, photo.read_bytes()).pixels.shape == (150, 200, 3)


def test_the_same_as_in_this_process(tmp_path, decoders):
    names = {"jpeg2.jpg", "cmyk.jpg", "png16RGB.png", "palette.png", "tifffloatL.tif", "exif.tif"}
    cases = [case for case in CASES if case.name in names]
    assert len(cases) == len(names)
    for case in cases:
        case.make(path := tmp_path / case.name)
        here, there = decode(path, path.read_bytes()), decoders.decode(path, path.read_bytes())
        assert pickle.dumps(dataclasses.asdict(here)) == pickle.dumps(dataclasses.asdict(there))
        there.pixels[0, 0] = 0  # They may be changed.


def test_errors_are_the_same_as_in_this_process(tmp_path, decoders):
    path = tmp_path / "\udcff.png"  # a name that is no text
    with pytest.raises(PhotoError) as here:
        decode(path, b"junk")
    with pytest.raises(PhotoError) as there:
        decoders.decode(path, b"junk")
    assert str(here.value) == str(there.value)


def test_where_no_process_can_be_started_it_is_decoded_here(card, decoders, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(card / "none"))
    photo = card / "a.png"
    assert decoders.decode(photo, photo.read_bytes()).pixels.any()
    assert not decoders._idle


def test_modules_of_the_same_names_beside_the_photos_are_no_matter(card, decoders, monkeypatch):
    for name in ("numpy.py", "struct.py", "pickle.py"):
        (card / name).write_text("raise SystemExit")
    monkeypatch.chdir(card)
    assert decoders.decode(Path("a.png"), (card / "a.png").read_bytes()).pixels.any()


@pytest.mark.slow
def test_none_outlives_a_batch_that_is_killed(card, tiny_model, tmp_path):
    command = ["denoise", card, "-o", tmp_path / "out", "-w", tiny_model, "--repeats", "200"]
    run = subprocess.Popen(
        [sys.executable, "-m", "amsnet_cli", *map(str, command)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (there := children(psutil.Process(run.pid))):
        assert run.poll() is None
        time.sleep(0.02)
    run.kill()
    run.wait()
    assert not psutil.wait_procs(there, timeout=60)[1]
