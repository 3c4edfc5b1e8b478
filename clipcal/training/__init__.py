"""The parts of one training run -> the gradient norm of every step. The one training loop."""
