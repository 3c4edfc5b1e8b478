"""Evidence -> figures: the numbers behind every picture, which the page and the image files draw. Pure functions of arrays."""
