"""The writer's connection of one drain run: opened when needed, replaced when broken.

Here: one connection for lease and batches, so that both see the same server. Not here: retries
(`events/drain.py`): a failed attempt surfaces, the next one connects anew.
"""

from collections.abc import Callable

from audit_platform.db.pool import Connection


class WriterSession:
    """Holds at most one connection."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        """Connect at first use.

        Args:
            connect: Opens a connection of the writer in autocommit mode.
        """
        self._connect = connect
        self._connection: Connection | None = None

    def connection(self) -> Connection:
        """Give a connection that was not seen broken.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer.
        """
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def close(self) -> None:
        """Close the connection; calling it again does nothing."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
