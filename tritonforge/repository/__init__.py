"""Build and validate a model repository."""
