"""From a photo and a model to a denoised photo."""
