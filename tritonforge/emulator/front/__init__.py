"""The emulator's front: one HTTP server on loopback, and who of those behind it answers a request."""

from __future__ import annotations
