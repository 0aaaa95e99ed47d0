"""Many photos: plan which file becomes which, then run the jobs."""
