"""Published weights: what the manifest names, how they get here, where they lie."""
