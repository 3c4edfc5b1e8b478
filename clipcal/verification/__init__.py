"""A run and its threshold -> arms that are trained with and without it, and what they show."""
