"""Import checkpoints that others have published, without running anything in them."""
