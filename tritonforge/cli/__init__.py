"""The command line: one module a wing; the only place that prints, draws progress and exits."""
