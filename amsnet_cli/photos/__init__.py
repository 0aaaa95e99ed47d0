"""Read and write photos: pixels, colour profile and metadata."""
