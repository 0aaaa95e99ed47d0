"""Score, compare and submit: datasets, evaluation, benchmarks' file formats."""
