"""The Lua script denoises images in a real darktable, on a screen that nobody sees."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.dng_files import dng, exposed

SCRIPT = Path(__file__).parents[1] / "integrations" / "darktable" / "amsnet.lua"
MISSING = [name for name in ("darktable", "Xvfb", "xvfb-run") if not shutil.which(name)]

DRIVER = """
local dt = require "darktable"
package.path = "{folder}/?.lua;" .. package.path
local amsnet = require "amsnet"
dt.preferences.write("amsnet", "program", "string", "{program}")
dt.preferences.write("amsnet", "options", "string", "--luma 0.8")
local report = io.open("{folder}/report.part", "w")
local function say(...) report:write(table.concat({{...}}, "\\t"), "\\n") report:flush() end
dt.control.dispatch(function()
  local ok, problem = pcall(function()
    for _, one in ipairs({{ {{"it's a photo.dng", "dng"}}, {{"it's a photo.dng", "dng"}},
                           {{"it's a photo.dng", "tiff"}}, {{"picture.png", "tiff"}},
                           {{"picture.png", "dng"}} }}) do
      local image = dt.database.import("{folder}/" .. one[1])
      local results, failures = amsnet.denoise({{image}}, one[2])
      for _, r in ipairs(results) do
        say("done", r.filename, tostring(r.group_leader.filename == one[1]
          or image.group_leader.filename == r.group_leader.filename))
      end
      for _, f in ipairs(failures) do say("failed", f) end
    end
    dt.preferences.write("amsnet", "program", "string", "no such program")
    local _, failures = amsnet.denoise({{dt.database.import("{folder}/picture.png")}}, "tiff")
    say("failed", failures[1])
  end)
  say(ok and "end" or "error", tostring(problem))
  report:close()
  os.rename("{folder}/report.part", "{folder}/report")
end)
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_the_script_denoises_imports_and_groups(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(SCRIPT, folder)
    light = np.tile(np.linspace(0.02, 0.5, 256), (192, 1))
    (folder / "it's a photo.dng").write_bytes(dng(exposed(light, noise=60)))
    noise = np.random.default_rng(0).normal(0, 20, (120, 160, 3))
    Image.fromarray((128 + noise).round().clip(0, 255).astype(np.uint8)).save(
        folder / "picture.png"
    )
    program = tmp_path / "amsnet"
    root = Path(__file__).parents[1]
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" -m amsnet_cli "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    config = tmp_path / "config"
    config.mkdir()
    (config / "luarc").write_text(DRIVER.format(folder=folder, program=program))
    environment = {**os.environ, "HOME": str(tmp_path), "LD_LIBRARY_PATH": ""}
    command = [
        *("xvfb-run", "-a", "darktable", "--library", ":memory:", "--configdir", config),
        *("--cachedir", tmp_path / "cache", "--conf", "write_sidecar_files=FALSE"),
    ]
    with (tmp_path / "log").open("w") as log:
        darktable = subprocess.Popen(
            list(map(str, command)), env=environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            until = time.monotonic() + 280
            while not (folder / "report").exists() and time.monotonic() < until:
                assert darktable.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.5)
        finally:
            os.killpg(darktable.pid, 15)
            darktable.wait(30)
    said = (tmp_path / "log").read_text()
    lines = [line.split("\t") for line in (folder / "report").read_text().splitlines()]
    assert lines[-1][0] == "end", (lines, said)
    assert lines[:4] == [
        ["done", "it's a photo_clean.dng", "true"],
        ["done", "it's a photo_clean_01.dng", "true"],
        ["done", "it's a photo_clean.tif", "true"],
        ["done", "picture_clean.tif", "true"],
    ], said
    assert [line[0] for line in lines[4:6]] == ["failed", "failed"]
    assert "picture.png" in lines[4][1] and "RAW" in lines[4][1]
    assert (
        "is the program in the settings the right one" in lines[5][1] or "not found" in lines[5][1]
    )
    with Image.open(folder / "picture_clean.tif") as clean:
        assert clean.size == (160, 120)
