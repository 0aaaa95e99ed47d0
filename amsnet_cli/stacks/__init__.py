"""Stacks: files of many pages that instruments write, read and written page by page."""
