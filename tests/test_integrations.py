"""What other programs read of amsnet is valid by their own checkers, and up to date."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHELLS = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "-n"], "pwsh": []}


def checker(name: str) -> str:
    """The path of a program; the test is skipped where it is not installed."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def check(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_the_manual_page_is_that_of_the_commands_and_well_formed():
    path = ROOT / "docs" / "amsnet.1"
    made = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_man.py"], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    page = path.read_text("utf-8")
    assert made.stdout == page, "run: python docs/make_man.py > docs/amsnet.1"
    for command in ("denoise", "tune", "export", "fit", "weights pull"):
        assert f".SS amsnet {command}\n" in page
    said = check(checker("mandoc"), "-T", "lint", "-W", "warning", path).splitlines()
    # A date of its own would change the page each day.
    assert [line for line in said if "missing date" not in line] == []


def test_the_action_of_file_managers_is_valid():
    path = ROOT / "integrations" / "desktop" / "amsnet-denoise.desktop"
    assert check(checker("desktop-file-validate"), path) == ""
    assert "Exec=amsnet denoise --suffix _clean %F\n" in path.read_text()


def test_the_dockerfile_passes_its_linter():
    path = ROOT / "integrations" / "docker" / "Dockerfile"
    assert check(checker("hadolint"), "--no-color", path) == ""


def test_the_script_for_darktable_passes_its_linter():
    path = ROOT / "integrations" / "darktable" / "amsnet.lua"
    said = check(checker("luacheck"), "--std", "lua54", "--no-color", path)
    assert "Total: 0 warnings / 0 errors" in said


@pytest.mark.parametrize("shell", SHELLS)
def test_completions_of_a_shell(shell, tmp_path):
    code = "import sys; sys.argv = ['amsnet']; from amsnet_cli.__main__ import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "_AMSNET_COMPLETE": f"source_{shell}"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert "amsnet" in done.stdout and "_AMSNET_COMPLETE" in done.stdout
    script = tmp_path / "script"
    script.write_text(done.stdout)
    if SHELLS[shell] and shutil.which(shell):
        assert check(*SHELLS[shell], script) == ""
