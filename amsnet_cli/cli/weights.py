"""`amsnet weights`: published weights, imported checkpoints and fitted models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from amsnet_cli.cli import options
from amsnet_cli.cli import weights_text as text
from amsnet_cli.cli.console import (
    complain,
    confirm,
    download_bar,
    imports_whole,
    print_json,
    print_result,
    say,
    show_table,
)
from amsnet_cli.errors import OutputError, UsageError, WeightsError
from amsnet_cli.weights.inventory import InventoryItem, inventory, stale_files
from amsnet_cli.weights.inventory import remove as remove_file
from amsnet_cli.weights.manifest import ManifestEntry, load_manifest
from amsnet_cli.weights.pull import pull as pull_entry
from amsnet_cli.weights.records import first_use, read_record
from amsnet_cli.weights.store import find_weights
from amsnet_cli.weights.verify import verify as verify_entry
from amsnet_cli.weights.verify import verify_model

app = typer.Typer(
    help="List, pull, import, verify and remove weights.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As in `amsnet weights list`.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]


@app.command("list")
def list_weights(as_json: options.Json = False) -> None:
    """List all weights and models, here and available."""
    manifest, items = load_manifest(), inventory()
    if as_json:
        rows = [{**text.as_json(i), "default": i.name == manifest.default} for i in items]
        print_json(rows)
        return
    table = Table("name", "state", "size", "licence", "title", box=None, header_style="bold")
    for item in items:
        name = item.name + " (default)" * (item.name == manifest.default)
        size = f"{'' if text.size_is_exact(item) else '~'}{item.size / 1e6:.1f} MB"
        licence = item.entry.licence if item.entry else "-"
        licence = "unknown" if licence == "NOASSERTION" else licence
        table.add_row(escape(name), item.state, size, licence, escape(text.title(item)))
    show_table(table)


@app.command()
def show(name: Name, as_json: options.Json = False) -> None:
    """Show purpose, settings, licence, training data, scores and limits."""
    item = _find(name)
    entry = item.entry
    record = read_record(item.path) if item.path else None
    trusted = first_use(entry.name) if entry and not entry.file.pinned else None
    if as_json:
        facts: dict[str, Any] = text.as_json(item)
        facts["published"] = dataclasses.asdict(entry) if entry else None
        facts["model"] = item.header or None
        facts["origin"] = dataclasses.asdict(record.origin) if record else None
        facts["first_use"] = dataclasses.asdict(trusted) if trusted else None
        print_json(facts)
        return
    table = Table(box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in text.details(item, record, trusted):
        if value not in (None, ""):
            table.add_row(label, escape(str(value)))
    show_table(table)


@app.command()
def pull(
    name: Name,
    trust_first_use: Annotated[
        bool,
        typer.Option(
            "--trust-first-use",
            help="Accept a file without a published checksum; its own is enforced from then on.",
        ),
    ] = False,
    from_file: Annotated[
        Path | None,
        typer.Option("--from-file", metavar="FILE", help="Use this file; do not download."),
    ] = None,
    force: Annotated[
        bool, typer.Option("-f", "--force", help="Pull again even if it is here.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Download weights and verify them.

    The same command resumes an interrupted download.
    """
    entry = load_manifest().entry(name)
    with download_bar(entry.name, quiet=quiet) as progress:
        try:
            path = pull_entry(
                entry, convert=_convert, from_file=from_file, trust_first_use=trust_first_use,
                force=force, progress=progress, notice=say,
            )  # fmt: skip
        except KeyboardInterrupt:
            say("the download so far is kept; the same command resumes it")
            raise
    print_result(path)
    if not quiet:
        where = "comes with amsnet" if entry.bundled else "is here"
        say(f"{entry.name} {where}, verified; use it with: {text.use_command(entry.name)}")
        if find_weights(entry.name) != path:
            say(f"your own model {entry.name} is used instead of it, until you remove that")


@app.command("import")
def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A checkpoint (.ckpt, .pth, .pt) or a .safetensors file."
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the model. (default: as the file)")
    ] = None,
    single_pass: Annotated[
        bool,
        typer.Option(
            "--single-pass",
            help="Run it without masks, as networks that were trained on clean images.",
        ),
    ] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Import a checkpoint of one of the paper's networks, or an amsnet model file.

    Nothing in the file is run. Its network is recognised by its structure.
    """
    with imports_whole():
        from amsnet_cli.importing.import_weights import import_weights

    done = import_weights(file, name, single_pass=single_pass, force=force, notice=say)
    print_result(done.path)
    if quiet:
        return
    config = dataclasses.asdict(done.config)
    network = text.network_name(config)
    what = f"{done.entry.name}, a {network}" if done.entry else f"a {network}"
    runs = text.how_to_run(config["inference"], config["fill"])
    say(f"{file} is {what}: {runs}; use it with: {text.use_command(done.name)}")
    if done.entry is None and "imported_from" in config["provenance"] and not single_pass:
        say("if it was trained on clean images, import it again with --single-pass --force")


@app.command()
def path(name: Name) -> None:
    """Print the path of a file of weights or a model."""
    print_result(find_weights(name))


@app.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One name. (default: all that are here)")
    ] = None,
) -> None:
    """Re-hash files; report damaged ones and how to fix them."""
    items = [_find(name)] if name else [item for item in inventory() if item.path]
    failed: WeightsError | None = None
    for item in items:
        try:
            if item.entry:
                verify_entry(item.entry)
                result = "ok"
            else:
                assert item.path
                result = verify_model(item.path)
        except WeightsError as error:
            complain(error)
            failed = error
        else:
            print_result(f"{item.name}: {result}")
    if failed:
        raise typer.Exit(failed.exit_code)


@app.command()
def remove(name: Name, yes: Yes = False) -> None:
    """Delete pulled weights, or an imported or fitted model."""
    item = _find(name)
    if item.state == "bundled":
        raise UsageError(f"{name} is part of amsnet", "remove pulled or fitted ones")
    if item.path is None:
        raise WeightsError(f"weights {name} are not here", "see: amsnet weights list")
    loss = {
        "pulled": "It can be pulled again.",
        "imported": "It can be imported again from its checkpoint.",
    }.get(item.state, "It was made here and cannot be fetched again.")
    if not yes and not confirm(f"Delete {item.path}? {loss}"):
        raise typer.Exit(1)
    _delete([item.path])


@app.command()
def prune(yes: Yes = False) -> None:
    """Delete stale files: abandoned downloads, and pulled weights that no manifest lists."""
    stale = stale_files()
    if not stale:
        say("nothing to prune")
        return
    size = sum(p.stat().st_size for p in stale)
    for leftover in stale:
        say(f"{leftover}: {leftover.stat().st_size / 1e6:.1f} MB")
    if not yes and not confirm(f"Delete these {size / 1e6:.1f} MB?"):
        raise typer.Exit(1)
    _delete(stale)


def _convert(source: Path, output: Path, entry: ManifestEntry) -> None:
    with imports_whole():
        from amsnet_cli.importing.import_weights import convert

    convert(source, output, entry)


def _find(name: str) -> InventoryItem:
    """Find a name or alias in the inventory; as in `find_weights`, the user's models come first."""
    items = inventory()
    for item in items:
        if item.entry is None and item.name == name:
            return item
    for item in items:
        if item.entry and name in (item.name, *item.entry.aliases):
            return item
    known = ", ".join(item.name for item in items)
    raise WeightsError(f"no weights or fitted model named {name}", f"there are: {known}")


def _delete(paths: list[Path]) -> None:
    for stale in paths:
        try:
            remove_file(stale)
        except OSError as error:
            raise OutputError(f"{stale}: cannot be deleted ({error.strerror})") from error
        say(f"removed {stale}")
