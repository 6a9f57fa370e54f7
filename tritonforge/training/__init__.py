"""Training: labelled data, the contract of training containers, and training jobs on this machine."""
