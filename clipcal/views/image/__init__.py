"""Figures -> pictures for a paper, drawn by matplotlib (an extra): panels, a page of them, and its file."""
