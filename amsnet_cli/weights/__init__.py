"""Published weights: the manifest, downloads, verification and storage."""
