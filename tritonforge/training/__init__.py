"""Learn the model that will be served: labelled data, the contract of training containers, jobs of this machine."""
