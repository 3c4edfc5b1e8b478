"""A training that somebody else wrote -> what is measured of each of its steps. It needs torch and the standard library alone."""
