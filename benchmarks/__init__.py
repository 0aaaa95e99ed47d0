"""Commands that measure the numbers of the docs; not part of the package."""
