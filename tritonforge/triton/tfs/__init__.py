"""Packages for SageMaker's TensorFlow Serving containers, as values: their layout and their environment. No I/O."""
