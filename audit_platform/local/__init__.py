"""Everything embedded: PostgreSQL, Redis, the supervisor, demo traffic."""
