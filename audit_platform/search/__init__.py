"""Answers questions about stored events: filters and cursors, then PostgreSQL."""
