"""Logs and, later, metrics of our own processes."""
