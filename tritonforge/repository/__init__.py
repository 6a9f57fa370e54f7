"""Build a model repository: definitions, configurations, artifacts, conversion."""
