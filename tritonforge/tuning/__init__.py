"""The search for batching, instances and threads on the real server."""
