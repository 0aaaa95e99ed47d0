"""What other programs read of amsnet is valid by their own checkers, and up to date."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from amsnet_cli import __version__

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


class TestConda:
    RECIPE = ROOT / "integrations" / "conda" / "recipe.yaml"

    def test_the_recipe_needs_what_the_package_needs(self):
        text = self.RECIPE.read_text("utf-8")
        project = (ROOT / "pyproject.toml").read_text("utf-8")
        listed = project.split("\ndependencies = [\n")[1].split("\n]\n")[0]
        needs = set(re.findall(r'^    "([^"]+)"', listed, re.M)) - {"pyvips-binary>=8.16"}
        needs = {need.replace("torch", "pytorch", 1).replace(">=", " >=") for need in needs}
        run = text.split("  run:\n")[1].split("\ntests:")[0]
        found = {line[6:].split(" #")[0] for line in run.splitlines() if line.startswith("    - ")}
        assert found - {"python >=${{ python_min }}"} == needs
        assert f'version: "{__version__}"' in text

    def test_rattler_build_renders_it(self):
        """It needs conda-forge's packages to build it, which no test should download."""
        rattler_build = pytest.importorskip("rattler_build", reason="py-rattler-build")
        recipe = rattler_build.Stage0Recipe.from_file(str(self.RECIPE))
        variants = rattler_build.VariantConfig.from_yaml('python_min: ["3.10"]')
        (rendered,) = recipe.render(variants)
        assert rendered.recipe.package.version == __version__
        assert "pytorch >=2.10" in rendered.recipe.requirements.run
