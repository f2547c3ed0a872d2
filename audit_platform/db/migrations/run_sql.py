"""Execute one .sql file inside a revision."""

from importlib import resources

from alembic import op


def run_sql(file_name: str) -> None:
    """Send the whole file as one simple query, inside the transaction of the revision."""
    text = (resources.files("audit_platform.db.migrations") / "sql" / file_name).read_text()
    # The driver's own cursor: the file holds % and : signs, parameters to SQLAlchemy.
    op.get_bind().connection.cursor().execute(text)
