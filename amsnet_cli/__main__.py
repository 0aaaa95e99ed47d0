"""`python -m amsnet_cli` is `amsnet`."""

from amsnet_cli.cli.app import main

main()
