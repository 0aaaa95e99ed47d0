"""The notebook runs from top to bottom, and a fit to the folder beats the default weights."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_first_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its `!amsnet` is the one that these tests import.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    notebook = nbformat.read(ROOT / "notebooks" / "first_steps.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()

    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [out for cell in codes for out in cell.outputs if "image/png" in out.get("data", {})]
    assert len(shown) == 3, "clean and noisy, default, fitted"
    psnr = ast.literal_eval(codes[-1].outputs[-1].data["text/plain"])
    assert psnr["default"] > psnr["noisy"] + 0.5
    assert psnr["fitted"] > psnr["default"] + 0.1
