"""`amsnet weights`: published weights and fitted models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from amsnet_cli.cli import options
from amsnet_cli.cli.console import (
    complain,
    download_bar,
    print_result,
    reports_errors,
    say,
    show_table,
)
from amsnet_cli.errors import UsageError, WeightsError
from amsnet_cli.weights.download import pull as pull_entry
from amsnet_cli.weights.manifest import load_manifest
from amsnet_cli.weights.store import entry_path, find_weights, fitted_models
from amsnet_cli.weights.store import verify as verify_entry

app = typer.Typer(
    help="List, pull, verify and remove weights.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As in `amsnet weights list`.")]


@app.command("list")
@reports_errors
def list_weights(as_json: options.Json = False) -> None:
    """List published weights and fitted models."""
    manifest = load_manifest()
    rows: list[dict[str, Any]] = []
    for entry in manifest.entries.values():
        path = entry_path(entry)
        here = path.is_file()
        state = "bundled" if entry.bundled else "pulled" if here else "can be pulled"
        rows.append(
            {"name": entry.name, "state": state, "bytes": entry.size, "licence": entry.licence,
             "title": entry.title, "path": str(path) if here else None,
             "default": entry.name == manifest.default}
        )  # fmt: skip
    for name, path in fitted_models().items():
        rows.append(
            {"name": name, "state": "fitted", "bytes": path.stat().st_size, "licence": None,
             "title": "fitted here", "path": str(path), "default": False}
        )  # fmt: skip
    if as_json:
        print_result(json.dumps(rows))
        return
    table = Table("name", "state", "size", "licence", "what", box=None, header_style="bold")
    for row in rows:
        default = " (default)" if row["default"] else ""
        table.add_row(
            escape(row["name"]) + default, row["state"], f"{row['bytes'] / 1e6:.1f} MB",
            row["licence"] or "-", escape(row["title"]),
        )  # fmt: skip
    show_table(table)


@app.command()
@reports_errors
def pull(
    name: Name,
    force: Annotated[bool, typer.Option("-f", "--force", help="Download again.")] = False,
) -> None:
    """Make weights ready for use: download if need be, and check them."""
    entry = load_manifest().entry(name)
    if not entry.bundled and (force or not entry_path(entry).is_file()):
        with download_bar(name) as progress:
            pull_entry(entry, progress)
    verify_entry(entry)
    print_result(entry_path(entry))
    came = "comes with amsnet" if entry.bundled else "is here"
    say(f"{name} {came}, sha256 checked; use it with: amsnet denoise PHOTO -o CLEAN -w {name}")


@app.command()
@reports_errors
def path(name: Name) -> None:
    """Print where the file of weights or of a fitted model lies."""
    print_result(find_weights(name))


@app.command()
@reports_errors
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One name; all that are here if none.")
    ] = None,
) -> None:
    """Compare files with the sha256 in the manifest."""
    manifest = load_manifest()
    entries = [manifest.entry(name)] if name else list(manifest.entries.values())
    failed: WeightsError | None = None
    for entry in entries:
        if name is None and not entry.bundled and not entry_path(entry).is_file():
            continue
        try:
            verify_entry(entry)
        except WeightsError as error:
            complain(error)
            failed = error
        else:
            print_result(f"{entry.name}: ok")
    if failed:
        raise typer.Exit(failed.exit_code)


@app.command()
@reports_errors
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
) -> None:
    """Delete pulled weights or a fitted model."""
    fitted = fitted_models()
    if name in fitted:
        target: Path = fitted[name]
        loss = "It was fitted here and cannot be fetched again."
    else:
        entry = load_manifest().entry(name)
        if entry.bundled:
            raise UsageError(f"{name} is part of amsnet and stays", "remove pulled or fitted ones")
        target, loss = entry_path(entry), "It can be pulled again."
        if not target.is_file():
            raise WeightsError(f"weights {name} are not here", "see: amsnet weights list")
    if not yes and not typer.confirm(f"Delete {target}? {loss}", err=True):
        raise typer.Exit(1)
    target.unlink()
    say(f"removed {target}")
