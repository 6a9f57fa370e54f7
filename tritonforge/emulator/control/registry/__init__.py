"""Algorithms, model packages and their groups: what can be trained and deployed by name, once it is validated."""
