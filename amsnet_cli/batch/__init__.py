"""Many photos: which file becomes which, and how they are worked through."""
