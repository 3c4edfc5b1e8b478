"""What is to be trained: a spec, a script, a sample, checked and as a run keeps it."""
