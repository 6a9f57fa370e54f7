"""AWS requests planned as values, shown, and sent in order."""
