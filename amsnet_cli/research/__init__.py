"""Datasets, evaluation against clean pictures, and submission to benchmarks."""
