"""Jobs: what Dagster launches; bodies call the domain and return counts."""
