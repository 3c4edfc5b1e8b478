"""Calibrating a training script as it is: it is run in processes of its own, and watched from here."""
