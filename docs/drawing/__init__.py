"""Runs and measurements -> the pictures of these pages, drawn with the style, the scales and the writing of clipcal.views.image."""
