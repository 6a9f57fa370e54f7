"""The load generator, the time of every step of an ensemble, and traces."""
