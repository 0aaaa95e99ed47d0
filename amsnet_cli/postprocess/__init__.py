"""Post-processing: corrections of the network's output that need no clean image."""
