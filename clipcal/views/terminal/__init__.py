"""Answers and progress -> what a person reads in a terminal."""
