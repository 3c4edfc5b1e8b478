"""A run or a log -> one HTML page that holds everything: figures, answer, evidence, and no request to anywhere."""
