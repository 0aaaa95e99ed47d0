"""`amsnet weights`: published weights, imported checkpoints and fitted models."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from amsnet_cli.cli import options
from amsnet_cli.cli.console import (
    camera_and_speeds,
    complain,
    download_bar,
    imports_whole,
    print_result,
    reports_errors,
    say,
    show_table,
)
from amsnet_cli.errors import OutputError, UsageError, WeightsError
from amsnet_cli.weights.manifest import Entry, load_manifest
from amsnet_cli.weights.pull import pull as pull_entry
from amsnet_cli.weights.records import lock_path, pinned_here, read_record
from amsnet_cli.weights.store import (
    Holding,
    cameras_of,
    find_weights,
    inventory,
    leftovers,
    verify_model,
)
from amsnet_cli.weights.store import remove as remove_file
from amsnet_cli.weights.store import verify as verify_entry

app = typer.Typer(
    help="List, pull, import, verify and remove weights.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As in `amsnet weights list`.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]


@app.command("list")
@reports_errors
def list_weights(as_json: options.Json = False) -> None:
    """List what is here, and what can be had."""
    manifest, holdings = load_manifest(), inventory()
    if as_json:
        rows = [{**_row(h), "default": h.name == manifest.default} for h in holdings]
        print_result(json.dumps(rows))
        return
    table = Table("name", "state", "size", "licence", "what", box=None, header_style="bold")
    for h in holdings:
        name = h.name + " (default)" * (h.name == manifest.default)
        size = f"{'' if _exact(h) else '~'}{h.size / 1e6:.1f} MB"
        licence = "unknown" if (known := _licence(h)) == "NOASSERTION" else known or "-"
        table.add_row(escape(name), h.state, size, licence, escape(_title(h)))
    show_table(table)


@app.command()
@reports_errors
def show(name: Name, as_json: options.Json = False) -> None:
    """Tell all that is known of weights or a model."""
    held = _held(name)
    entry = held.entry
    record = read_record(held.path) if held.path else None
    pinned = pinned_here(entry.name) if entry and not entry.file.pinned else None
    if as_json:
        facts: dict[str, Any] = _row(held)
        facts["published"] = dataclasses.asdict(entry) if entry else None
        facts["model"] = held.header or None
        facts["came"] = dataclasses.asdict(record.came) if record else None
        facts["pinned_on_first_use"] = dataclasses.asdict(pinned) if pinned else None
        print_result(json.dumps(facts))
        return
    table = Table(box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def line(label: str, text: object) -> None:
        if text not in (None, ""):
            table.add_row(label, escape(str(text)))

    line("name", ", also ".join([held.name, *(entry.aliases if entry else ())]))
    line("what", _title(held))
    line("state", held.state)
    if entry:
        line("for", entry.purpose)
        line("network", entry.network)
        line("run", _how_to_run(entry.inference, entry.fill))
        line("file", f"{entry.file.name}, {'' if _exact(held) else 'about '}{held.size:,} bytes")
        line("sha256", entry.file.sha256)
        line("git blob sha1", entry.file.git_blob_sha1)
        if not entry.file.pinned:
            line("digest", "none is published; the first file that is trusted is pinned")
        for source in entry.sources:
            line("source", source)
        line("licence", _licence(held))
        line("supervised", "yes, by clean pictures" if entry.supervised else "no")
        line("trained on", entry.trained_on)
        for score in entry.scores:
            line("score", _score(score))
        line("limits", entry.limits)
    if header := held.header:
        line("network", _network(header))
        line("run", _how_to_run(header.get("inference", {}), header.get("fill", "")))
        line("fitted to", _cameras(held))
        for key, value in header.get("provenance", {}).items():
            line(key.replace("_", " "), value)
    if pinned:
        line("pinned here", f"sha256 {pinned.sha256}, on {pinned.date}, in {lock_path()}")
    if record:
        line("came from", f"{record.came.source}, on {record.came.date}")
    line("path", held.path)
    line("use it with" if held.path else "get it with", _next_command(held))
    show_table(table)


@app.command()
@reports_errors
def pull(
    name: Name,
    trust_first_use: Annotated[
        bool,
        typer.Option(
            "--trust-first-use",
            help="Take a file that has no published digest; its own is enforced from then on.",
        ),
    ] = False,
    from_file: Annotated[
        Path | None,
        typer.Option("--from-file", metavar="FILE", help="Take this file, do not download."),
    ] = None,
    force: Annotated[bool, typer.Option("-f", "--force", help="Even if it is here.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Make weights ready for use: download if need be, and check them.

    An interrupted download goes on where it stopped.
    """
    entry = load_manifest().entry(name)
    with download_bar(entry.name, quiet=quiet) as progress:
        try:
            path = pull_entry(
                entry, convert=_convert, from_file=from_file, trust_first_use=trust_first_use,
                force=force, progress=progress, notice=say,
            )  # fmt: skip
        except KeyboardInterrupt:
            say("what has come is kept: the same command goes on from there")
            raise
    print_result(path)
    if not quiet:
        came = "comes with amsnet" if entry.bundled else "is here"
        say(f"{entry.name} {came}, digest checked; {_use(entry.name)}")
        if find_weights(entry.name) != path:
            say(f"{entry.name} is also a model of yours, which goes first until it is removed")


@app.command("import")
@reports_errors
def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A checkpoint (.ckpt, .pth, .pt) or a .safetensors file."
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="What to call it. (default: as the file)")
    ] = None,
    bare: Annotated[
        bool,
        typer.Option("--bare", help="Run it in one pass, as networks trained on clean pictures."),
    ] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a model of a checkpoint of one of the paper's networks, or of an amsnet model file.

    Nothing in the file is run. It is recognised by its structure and converted.
    """
    with imports_whole():
        from amsnet_cli.importing import import_weights

    done = import_weights(file, name, bare=bare, force=force, notice=say)
    print_result(done.path)
    if quiet:
        return
    config = dataclasses.asdict(done.config)
    what = f"{done.entry.name}, a {_network(config)}" if done.entry else f"a {_network(config)}"
    say(f"{file} is {what}: {_how_to_run(config['inference'], config['fill'])}; {_use(done.name)}")
    if done.entry is None and "imported_from" in config["provenance"] and not bare:
        say("if it was trained on clean pictures, import it with --bare: it runs without masks")


@app.command()
@reports_errors
def path(name: Name) -> None:
    """Print where the file of weights or of a model lies."""
    print_result(find_weights(name))


@app.command()
@reports_errors
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One name; all that are here if none.")
    ] = None,
) -> None:
    """Hash files again and compare: with the manifest, or with what was recorded here."""
    held = [_held(name)] if name else [h for h in inventory() if h.path]
    failed: WeightsError | None = None
    for h in held:
        try:
            if h.entry:
                verify_entry(h.entry)
                result = "ok"
            else:
                assert h.path
                result = verify_model(h.path)
        except WeightsError as error:
            complain(error)
            failed = error
        else:
            print_result(f"{h.name}: {result}")
    if failed:
        raise typer.Exit(failed.exit_code)


@app.command()
@reports_errors
def remove(name: Name, yes: Yes = False) -> None:
    """Delete pulled weights, or an imported or fitted model."""
    held = _held(name)
    if held.state == "bundled":
        raise UsageError(f"{name} is part of amsnet and stays", "remove pulled or fitted ones")
    if held.path is None:
        raise WeightsError(f"weights {name} are not here", "see: amsnet weights list")
    loss = {
        "pulled": "It can be pulled again.",
        "imported": "It can be imported again from its checkpoint.",
    }.get(held.state, "It was made here and cannot be fetched again.")
    if not yes and not typer.confirm(f"Delete {held.path}? {loss}", err=True):
        raise typer.Exit(1)
    _delete([held.path])


@app.command()
@reports_errors
def prune(yes: Yes = False) -> None:
    """Delete leftovers: old partial downloads, and pulled weights that no manifest names."""
    found = leftovers()
    if not found:
        say("nothing to prune")
        return
    size = sum(p.stat().st_size for p in found)
    for leftover in found:
        say(f"{leftover}: {leftover.stat().st_size / 1e6:.1f} MB")
    if not yes and not typer.confirm(f"Delete these {size / 1e6:.1f} MB?", err=True):
        raise typer.Exit(1)
    _delete(found)


def _convert(source: Path, output: Path, entry: Entry) -> None:
    with imports_whole():
        from amsnet_cli.importing import convert

    convert(source, output, entry)


def _held(name: str) -> Holding:
    """Find a name among what is here and what can be had, as `find_weights` would."""
    holdings = {h.name: h for h in reversed(inventory()) if h.entry is None}
    if name in holdings:
        return holdings[name]
    manifest = load_manifest()
    if name not in manifest:
        known = ", ".join([*holdings, *manifest.entries])
        raise WeightsError(f"no weights or fitted model named {name}", f"there are: {known}")
    entry = manifest.entry(name)
    return next(h for h in inventory() if h.entry == entry)


def _delete(paths: list[Path]) -> None:
    for doomed in paths:
        try:
            remove_file(doomed)
        except OSError as error:
            raise OutputError(f"{doomed}: cannot be deleted ({error.strerror})") from error
        say(f"removed {doomed}")


def _row(held: Holding) -> dict[str, Any]:
    entry = held.entry
    return {
        "name": held.name,
        "aliases": list(entry.aliases) if entry else [],
        "state": held.state,
        "bytes": held.size,
        "bytes_exact": _exact(held),
        "licence": _licence(held),
        "title": _title(held),
        "network": entry.network if entry else _network(held.header) or None,
        "supervised": entry.supervised if entry else None,
        "cameras": cameras_of(held.header),
        "digest_published": entry.file.pinned if entry else None,
        "path": str(held.path) if held.path else None,
    }


def _exact(held: Holding) -> bool:
    return held.path is not None or held.entry is None or held.entry.file.size is not None


def _licence(held: Holding) -> str | None:
    return held.entry.licence if held.entry else None


def _title(held: Holding) -> str:
    if held.entry:
        return held.entry.title
    made = held.header.get("provenance", {})
    if held.state == "damaged":
        return "cannot be read as a model"
    if "imported_from" in made:
        return f"imported from {made['imported_from']}"
    title = f"fitted on {made['fitted_on']}" if "fitted_on" in made else "a model file"
    cameras = _cameras(held)
    return f"{title}, to {cameras}" if cameras else title


def _cameras(held: Holding) -> str:
    return "; ".join(camera_and_speeds(*camera) for camera in cameras_of(held.header).items())


def _network(header: Mapping[str, Any]) -> str:
    network = header.get("network", "")
    return network if isinstance(network, str) else "compact"


def _how_to_run(inference: Mapping[str, Any], fill: str) -> str:
    if inference.get("passes") != "multi":
        return "a single pass, nothing hidden"
    masks, stride = inference.get("n_masks", 2), inference.get("stride", 2)
    text = f"{masks} complementary masks (k = {masks}) at stride {stride}, hidden pixels: {fill}"
    if (repeats := inference.get("repeats", 1)) > 1:
        text += f", {repeats} sets averaged"
    if refine := inference.get("refine"):
        text += f", refined with {refine:g} of the noisy pixels"
    return text


def _score(score: Mapping[str, Any]) -> str:
    pictures = f" ({score['pictures']} pictures)" if "pictures" in score else ""
    before = f"noisy {score['noisy_psnr']:.2f} dB, " if "noisy_psnr" in score else ""
    ssim = f" / {score['ssim']:.3f}" if "ssim" in score else ""
    return f"{score['set']}{pictures}: {before}{score['psnr']:.2f} dB{ssim}; {score['protocol']}"


def _use(name: str) -> str:
    return f"use it with: amsnet denoise PHOTO -o CLEAN -w {shlex.quote(name)}"


def _next_command(held: Holding) -> str:
    quoted = shlex.quote(held.name)
    if held.path:
        return f"amsnet denoise PHOTO -o CLEAN -w {quoted}"
    if held.entry and not held.entry.file.pinned and not pinned_here(held.name):
        return (
            f"amsnet weights pull {quoted} --trust-first-use; or download the file with a browser "
            "and run: amsnet weights import FILE"
        )
    return f"amsnet weights pull {quoted}"
