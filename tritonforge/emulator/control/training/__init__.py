"""Training jobs: their operations, their life, and the threads that run them."""
