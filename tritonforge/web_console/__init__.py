"""The page of ``serve --ui``: the ensemble's graph with live figures, and every tensor of a request."""
