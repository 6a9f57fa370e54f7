"""The emulator's front: one HTTP server on loopback, which routes requests to moto, control plane and runtime."""

from __future__ import annotations
