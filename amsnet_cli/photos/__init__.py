"""Files to pixels and back, with all that belongs to a photo besides its pixels."""
