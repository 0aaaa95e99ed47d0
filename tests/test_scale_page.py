"""The commands of docs/scale.md, run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "scale.md").read_text("utf-8")
BLOCKS = re.findall(r"<!-- (run|file)(?:: (.+?))? -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
FILES = {name: text for kind, name, text in BLOCKS if kind == "file"}
COMMANDS = [(tool, text) for kind, tool, text in BLOCKS if kind == "run"]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="commands of a POSIX shell")


@pytest.fixture
def run(tmp_path, noisy_crop):
    """Run a script where the photos are and `amsnet` is a command; returns the results' names."""
    for i in range(5):
        path = tmp_path / "photos" / f"{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_photo(Photo(pixels=np.ascontiguousarray(noisy_crop[:40, :50])), path)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("amsnet", "amsnet_cli"), ("dask", "dask")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (programs / name).chmod(0o755)

    def script(text: str, **environment: str) -> set[str]:
        done = subprocess.run(
            ["sh", "-e"], input=text, cwd=tmp_path, check=False, capture_output=True, text=True,
            timeout=900,
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}",
                 "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **environment},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return {p.relative_to(tmp_path / "clean").as_posix() for p in tmp_path.glob("clean/*/*")}

    return script


ALL = {f"{i % 2}/{i}.png" for i in range(5)}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize(("tool", "text"), COMMANDS, ids=[text[:30] for _, text in COMMANDS])
def test_the_commands_denoise_every_photo(run, tmp_path, tool, text):
    if tool and not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    if "--dask" in text:
        pytest.importorskip("distributed", reason="needs pip install 'amsnet[cluster]'")
    if "Snakefile" in FILES and tool == "snakemake":
        (tmp_path / "Snakefile").write_text(FILES["Snakefile"])
    assert run(text.replace("8786", str(free_port()))) == ALL
    if "page.html" in text or tool == "snakemake":
        assert (tmp_path / "page.html").read_text().count('class="slider"') == 5


@pytest.mark.slow
def test_the_tasks_of_a_slurm_array_together_denoise_every_photo(run, tmp_path):
    """As Slurm runs them: each with its own variables."""
    for task in range(3):
        found = run(
            FILES["array.sh"], SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_MIN="0",
            SLURM_ARRAY_TASK_MAX="2", SLURM_ARRAY_TASK_STEP="1", SLURM_ARRAY_TASK_COUNT="3",
            SLURM_CPUS_PER_TASK="1",
        )  # fmt: skip
    assert found == ALL
    lines = [line for k in range(3) for line in (tmp_path / f"{k}.jsonl").read_text().splitlines()]
    assert len(lines) == 5


def test_the_service_is_one_for_systemd(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    unit = tmp_path / "amsnet.service"
    unit.write_text(FILES["amsnet.service"])
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "amsnet.service" not in done.stderr, done.stderr


def test_the_page_has_what_this_runs():
    assert len(COMMANDS) == 5 and set(FILES) == {"array.sh", "Snakefile", "amsnet.service"}
