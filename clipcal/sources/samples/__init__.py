"""The shipped samples: a spec each, and the modules that it trains."""
