"""The rules that a model repository is held to, a module a room: each gives findings from a `Context`."""
