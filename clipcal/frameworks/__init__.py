"""A threshold -> what it is called in the user's framework: text to paste, and the key in a config file."""
