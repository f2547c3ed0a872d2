"""Revisions of the fixed schema; each executes one .sql file."""
