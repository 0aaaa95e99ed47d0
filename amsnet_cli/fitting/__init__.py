"""Train a network on a folder of noisy photos alone."""
