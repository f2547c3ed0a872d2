"""One query as a stream of Arrow batches: a second connection through ADBC.

Here: connecting like a given connection, reading ahead by one batch, ADBC's errors as ours. Not
here: what is read and why.
Guarantee: the rows are one snapshot, read without a right to write; memory holds two batches,
whatever the number of rows; leaving the block early ends the query.

ADBC sends COPY … (FORMAT binary) and decodes it in C: no Python object per value, no text of a
number or a time in between. psycopg has no such path.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final, LiteralString

import adbc_driver_manager
import adbc_driver_postgresql
import psycopg.conninfo
import psycopg.sql
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from audit_platform.db.pool import Connection
from audit_platform.errors import (
    DatabaseError,
    DatabaseUnavailable,
    LockNotAvailable,
    PermissionRefused,
)

BATCH_BYTES: Final = 8 << 20
"""Of the COPY stream; small enough that several lie in memory, large enough to cost nothing."""
_SNAPSHOT: Final = "set transaction isolation level repeatable read, read only"


@contextmanager
def arrow_rows(
    connection: Connection,
    statement: psycopg.sql.Composable,
    *,
    role: LiteralString,
    settings: tuple[LiteralString, ...] = (),
    batch_bytes: int = BATCH_BYTES,
) -> Iterator[Iterator[pa.RecordBatch]]:
    """Read a query as batches, for one block.

    Args:
        connection: Says where and as whom to log in; it is not used itself and may be in any state.
        statement: One SELECT without parameters.
        role: Role to read as.
        settings: `name = value` for this query alone, for example `work_mem = '64MB'`.
        batch_bytes: Size of a batch in the COPY stream.

    Yields:
        Batches in the order of the query; UUIDs as 16 bytes, JSON and enums as text.

    Raises:
        DatabaseUnavailable: No answer, or the connection broke in the middle.
        PermissionRefused: The login or the role lacks a right.
        DatabaseError: PostgreSQL refused the statement.
    """
    text = statement.as_string(connection)
    with _translated(), dbapi.connect(_conninfo(connection), autocommit=False) as reading:
        with reading.cursor() as cursor:
            cursor.execute(_SNAPSHOT)
            cursor.execute(f"set local role {role}")
            for setting in settings:
                cursor.execute(f"set local {setting}")
        options = {
            adbc_driver_postgresql.StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(batch_bytes)
        }
        with reading.cursor(adbc_stmt_kwargs=options) as cursor:
            cursor.execute(text)
            with cursor.fetch_record_batch() as reader, ThreadPoolExecutor(1, "copy") as thread:
                try:
                    yield _read_ahead(reader, thread)
                except BaseException:
                    # A thread in the middle of a batch would keep the block from ending.
                    with suppress(Exception):
                        reading.adbc_cancel()
                    raise


def _read_ahead(
    reader: pa.RecordBatchReader, thread: ThreadPoolExecutor
) -> Iterator[pa.RecordBatch]:
    """Let PostgreSQL work while the caller does: the next batch is read meanwhile."""
    coming = thread.submit(_next_batch, reader)
    while (batch := coming.result()) is not None:
        coming = thread.submit(_next_batch, reader)
        yield batch


def _next_batch(reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
    with _translated():
        try:
            return reader.read_next_batch()
        except StopIteration:
            # A future cannot carry this one.
            return None


def _conninfo(connection: Connection) -> str:
    """The parameters of an open connection, its password included."""
    info = connection.info
    given: dict[str, Any] = dict(info.get_parameters())
    if info.password:
        given["password"] = info.password
    return psycopg.conninfo.make_conninfo(**given)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except adbc_driver_manager.Error as exc:
        raise _translate(exc.sqlstate, exc) from exc
    except (pa.ArrowException, OSError) as exc:
        # What breaks while batches are read comes without a state, as an error of Arrow.
        raise _translate(None, exc) from exc


def _translate(state: str | None, exc: Exception) -> DatabaseError:
    if state is None or state.startswith(("08", "53", "57", "58")):
        message = (
            "PostgreSQL ended a query before its last row. Check the server log; the step is "
            f"tried again ({type(exc).__name__})."
        )
        return DatabaseUnavailable(message, sqlstate=state)
    if state == "42501" or state.startswith("28"):
        return PermissionRefused(sqlstate=state)
    if state == "55P03":
        return LockNotAvailable(sqlstate=state)
    return DatabaseError(sqlstate=state)
