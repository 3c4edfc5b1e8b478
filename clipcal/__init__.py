"""clipcal: the gradient-clipping threshold, read from the run itself."""
