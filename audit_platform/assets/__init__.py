"""Assets: what the platform keeps, as Dagster shows it, with the checks on it."""
