"""One transaction with the rights of the owner of the tables.

Here: the change of role. Not here: what is done with it.
Guarantee: the role ends with the outermost transaction, so a connection handed on keeps its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from audit_platform.db.pool import OWNER_ROLE, Connection, transaction
from audit_platform.db.queries import load_queries


@contextmanager
def as_owner(conn: Connection) -> Iterator[None]:
    """Run a block in one transaction as the owner; `audit_maint` has no rights of its own.

    Args:
        conn: As `audit_maint` or as the owner; inside a transaction the block is a savepoint.
    """
    with transaction(conn):
        conn.execute(load_queries("rules")["take_owner_role"], {"role": OWNER_ROLE})
        yield
