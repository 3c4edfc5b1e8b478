"""One training run under one rule and one seed -> its trace, trained wherever there is room."""
