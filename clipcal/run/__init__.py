"""One run on disk: its directory, its files, and the types of what stands in them."""
