"""Validate a model repository: findings, rules, the runner, and autofix."""
