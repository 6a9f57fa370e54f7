"""The graph of a model repository: ensembles, their steps and tensors, and findings, as data and as pictures."""
