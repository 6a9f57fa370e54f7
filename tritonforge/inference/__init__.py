"""The wing that asks a Triton, once or a million times: `wire` is the bytes, `client` carries them."""
