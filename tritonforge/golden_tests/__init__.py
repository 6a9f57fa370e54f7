"""Golden tests: recorded answers of every step of a model, replayed on the real server.

`cases` and `recordings` are the files, `comparison` decides whether a tensor is the recorded one, `evaluation` names
the first step that differs, `runner` asks the server, and `suite` runs the cases of a directory.
"""
