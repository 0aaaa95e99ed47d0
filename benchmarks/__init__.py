"""Numbers of the README, one command each; not part of the package."""
