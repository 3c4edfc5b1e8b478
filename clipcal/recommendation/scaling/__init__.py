"""A run and a probe of it at a larger batch -> its threshold at another batch."""
