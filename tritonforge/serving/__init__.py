"""Run a model repository on a real Triton on this machine: `tritonforge.serving.server.Server`.

Nothing is imported here: the backends load this package inside Triton's stubs and need only their own modules.
"""
