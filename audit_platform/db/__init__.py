"""PostgreSQL edge: connections, named queries, migrations."""
