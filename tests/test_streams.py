"""Commands whose standard streams are closed, full or cut off, as shells really make them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs bash and /dev/full")


@pytest.fixture
def shell(tmp_path, tiny_model, noisy_crop):
    """Run a bash script in a folder with `in/` of two photos; $A is amsnet, $W its weights.

    Returns exit code, stdout and stderr; what the script itself redirects is not in them.
    """
    for name in ("a.png", "b.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_photo(Photo(pixels=noisy_crop[:40, :50]), tmp_path / "in" / name)

    def run(script: str) -> tuple[int, bytes, str]:
        names = {"A": f"{sys.executable} -m amsnet_cli", "W": f"-w {tiny_model}"}
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env={**os.environ, **names},
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        stderr = done.stderr.decode()
        assert "Traceback" not in stderr and "Exception" not in stderr, stderr
        return done.returncode, done.stdout, stderr

    return run


FULL = "error: stdout: cannot be written (No space left on device)"


@pytest.mark.parametrize(
    "command",
    [
        "--version", "weights list", *(
            pytest.param(more, marks=pytest.mark.slow)
            for more in ("--help", "denoise --help", "weights list --json", "weights show photo")
        ),
    ],
)  # fmt: skip
def test_commands_that_only_print(shell, command):
    script = (
        f"$A {command} >&-; echo $? >> codes\n"
        f"$A {command} >/dev/full; echo $? >> codes\n"
        f"$A {command} 2>&- | true; echo ${{PIPESTATUS[0]}} >> codes\n"
        f"$A {command} <&- >&- 2>&-; echo $? >> codes; cat codes\n"
    )
    _, codes, said = shell(script)
    closed, full, cut_off, all_closed = codes.split()
    assert (closed, full, all_closed) == (b"0", b"1", b"0")
    assert cut_off in (b"141", b"0"), "0 if all was in the pipe before its end was closed"
    assert said == f"{FULL}\n"


class TestDenoise:
    @pytest.mark.slow
    def test_closed_streams_lose_nothing_but_what_is_said(self, shell, tmp_path):
        assert shell("$A denoise in -o out $W <&- >&- 2>&-") == (0, b"", "")
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
        # The files got no descriptor of a closed stream, and no message in them.
        code, _, said = shell("$A evaluate in out $W --json 2>/dev/full >scores")
        assert code == 0 and said == ""
        assert len(json.loads((tmp_path / "scores").read_text())["pictures"]) == 2

    def test_a_full_stdout_loses_no_photo(self, shell, tmp_path):
        code, _, said = shell("$A denoise in -o out $W --json >/dev/full")
        assert code == 1 and said.splitlines()[-2:] == [said.splitlines()[-2], FULL]
        assert "2 of 2 photos denoised" in said
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]

    def test_a_reader_that_has_gone_ends_it(self, shell):
        code, _, said = shell("$A denoise in -o out $W -q | true; exit ${PIPESTATUS[0]}")
        assert code == 141 and said == ""

    @pytest.mark.slow
    def test_messages_need_no_stderr(self, shell, tmp_path):
        for stderr in ("/dev/full", "&-"):
            assert shell(f"$A denoise in -o out -f $W 2>{stderr}")[:2] == (
                0, b"out/a.png\nout/b.png\n",
            )  # fmt: skip
        assert shell("$A denoise missing.png -o x.png $W 2>/dev/full")[0] == 1
        assert shell("$A denoise in --nonsense 2>&-")[0] == 2

    def test_a_photo_through_stdout(self, shell):
        code, _, said = shell("$A denoise in/a.png -o - $W >/dev/full")
        assert code == 1 and said.endswith(f"{FULL}\n")
        code, _, said = shell("$A denoise in/a.png -o - $W >&-")
        assert (code, said) == (2, "error: stdout is closed; name a file with -o\n")

    def test_a_photo_through_stdin(self, shell):
        for stdin, code, line in (
            ("<&-", 2, "no photo comes through stdin; pipe one in, or name a file"),
            ("0>/dev/null", 1, "stdin: cannot be read (Bad file descriptor)"),
        ):
            assert shell(f"$A denoise - -o x.png $W {stdin}")[::2] == (code, f"error: {line}\n")

    def test_nowhere_to_put_a_stream(self, shell):
        """No temporary folder at all, or one on a full disk."""
        script = (
            "mkdir small && unshare -m bash -c '"
            "mount -t tmpfs -o size=4k amsnet-test small || exit 99\n"
            "TMPDIR=small $A denoise - -o x.png $W <in/a.png'"
        )
        code, _, said = shell(script)
        if code not in (1, 3):
            pytest.skip(f"no small file system can be mounted here: {said}")
        assert "No space left" in said and "TMPDIR" in said and said.count("\n") == 1


def test_a_question_without_an_answer(shell, tmp_path, home):
    model = home / "models" / "mine.safetensors"
    for stdin in ("<&-", "0>/dev/null"):
        shell("$A weights path photo >/dev/null")
        model.parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "tiny.safetensors", model)
        code, _, said = shell(f"$A weights remove mine {stdin}")
        assert code == 2 and "say yes beforehand with --yes" in said, said
        assert model.exists()


def wait_for_main(run: subprocess.Popen) -> None:
    """Wait until Python has started amsnet: before, it answers SIGINT with a traceback itself.

    Python catches SIGINT, and amsnet stops that first of all; the command line then catches both.
    """
    python_is_there = False
    while run.poll() is None:
        status = Path(f"/proc/{run.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        interrupt, end = (bool(caught >> s - 1 & 1) for s in (signal.SIGINT, signal.SIGTERM))
        if end or (python_is_there and not interrupt):
            return
        python_is_there = interrupt
        time.sleep(0.001)


def interrupt_from_the_start(tmp_path: Path, model: Path, count: int, seed: int) -> None:
    """Send signals at random moments from the start of amsnet, imports included, to its end.

    Before the command line is there to say so, and after all is done, the process ends by the
    signal itself.
    """
    rng = random.Random(seed)
    command = [sys.executable, "-m", "amsnet_cli", "denoise", "in", "-o", "out", "-w", model]
    # A test that runs in the background would pass on that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def start() -> subprocess.Popen:
        run = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for_main(run)
        return run

    run, started = start(), time.monotonic()
    _, said = run.communicate(timeout=120)
    assert run.returncode == 0, said
    whole = time.monotonic() - started
    right = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    interrupted = 0
    for i in range(count):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        number = (signal.SIGINT, signal.SIGTERM)[i % 2]
        run = start()
        moment = rng.uniform(0, whole)
        time.sleep(moment)
        run.send_signal(number)
        _, said = run.communicate(timeout=120)
        assert run.returncode in (0, 128 + number, -number), f"{moment}: {said}"
        assert "Traceback" not in said and "Exception" not in said, f"{moment}: {said}"
        interrupted += run.returncode != 0
        if (tmp_path / "out").exists():
            for path in (tmp_path / "out").iterdir():
                assert path.read_bytes() == right[path.name]
    assert interrupted >= count // 4, f"{interrupted} of {count}"


@pytest.mark.slow
def test_signals_from_the_first_moment_on(shell, tmp_path, tiny_model):
    interrupt_from_the_start(tmp_path, tiny_model, 4, seed=0)


@pytest.mark.slow
def test_many_signals_from_the_first_moment_on(shell, tmp_path, tiny_model):
    interrupt_from_the_start(tmp_path, tiny_model, 40, seed=1)
