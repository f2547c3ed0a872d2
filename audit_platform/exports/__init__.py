"""Searches written to files: CSV, NDJSON and Parquet, resumable, with a manifest."""
