"""Answers -> what people look at: the terminal, a page, image files, TensorBoard."""
