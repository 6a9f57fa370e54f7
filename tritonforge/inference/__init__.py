"""Inference client: `wire` encodes and decodes KServe v2 bodies, `client` sends them."""
