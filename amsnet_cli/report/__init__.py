"""HTML pages that show photos before and after, each in one file that needs nothing else."""
