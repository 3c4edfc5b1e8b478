"""Where the arms of a spec are trained: on this machine, or on a cluster."""
