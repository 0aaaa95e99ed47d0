"""The `amsnet` command and its subcommands."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from amsnet_cli import __version__
from amsnet_cli.cli import (
    compare,
    denoise,
    evaluate,
    export,
    fit,
    noise,
    report,
    submit,
    tune,
    weights,
)
from amsnet_cli.cli.console import complain, debugging, reports_errors
from amsnet_cli.cli.streams import run_with_streams


class _Commands(TyperGroup):
    """Reports the errors of all commands, and of the parsers of their options, in one line."""

    def invoke(self, ctx: Any) -> Any:
        return reports_errors(super().invoke)(ctx)


app = typer.Typer(
    name="amsnet",
    cls=_Commands,
    help="Denoise real photos; learn your camera from your own noisy shots.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.command()(denoise.denoise)
app.command()(tune.tune)
app.command()(compare.compare)
app.command()(report.report)
app.command()(noise.noise)
app.command()(fit.fit)
app.command()(export.export)
app.command()(evaluate.evaluate)
app.command()(submit.submit)
app.add_typer(weights.app, name="weights")


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"amsnet {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    if not sys.warnoptions and not debugging():
        warnings.simplefilter("ignore")  # They are for developers; users get notes and errors.
        warnings.filterwarnings("once", message=".* not currently supported on the MPS backend")
    sys.exit(run_with_streams(app, complain))
