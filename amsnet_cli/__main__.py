"""The command `amsnet`, also as `python -m amsnet_cli`."""

import signal


def main() -> None:
    """Run the command line."""
    # Until the command line handles Ctrl-C, it ends the process as other signals do.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from amsnet_cli.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
