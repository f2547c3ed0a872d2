"""The cold tier: sealed partitions as Parquet files with a manifest, written, read, verified."""
