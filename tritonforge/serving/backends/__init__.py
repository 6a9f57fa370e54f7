"""Triton *python-based backends*: a folder with a model.py each, which Triton loads for ``backend: "<folder>"``."""
