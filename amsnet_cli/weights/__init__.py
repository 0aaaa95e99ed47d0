"""Published weights: the manifest, downloading and verifying them, and where they are stored."""
