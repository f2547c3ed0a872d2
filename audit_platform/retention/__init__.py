"""Life of the partitions of `audit.event`: created ahead, and later sealed, archived, dropped."""
