"""A folder of runs -> what is there, and what moved between two of them."""
