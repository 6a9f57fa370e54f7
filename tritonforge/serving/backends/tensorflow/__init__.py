"""The ``tensorflow`` backend: SavedModels and frozen graphs."""
