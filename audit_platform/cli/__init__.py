"""Command line `audit-platform`: one file per group of commands."""
