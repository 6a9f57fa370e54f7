"""Configuration of the docstring examples, which run with ``pytest --doctest-modules tritonforge``."""

from __future__ import annotations

#: Programs that run inside Triton's stubs and import modules that only those have.
collect_ignore_glob = ["tritonforge/serving/backends/*/model.py"]
