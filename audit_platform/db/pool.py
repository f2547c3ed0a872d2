"""Connections to PostgreSQL by role, and the translation of its errors.

Here: connecting with time-outs, transactions, sqlstate to error class, psycopg to ours, once.
Not here: statements (`db/queries/*.sql`) and what they mean.
Guarantee: code outside `db/` that runs inside `translated()` sees only errors of `errors.py`.
"""

import re
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import psycopg.sql
from psycopg.rows import TupleRow

from audit_platform import errors

Connection = psycopg.Connection[TupleRow]

OWNER_ROLE: Final = "audit_owner"
CONNECT_TIMEOUT_S: Final = 5
# A server that went away is noticed within 30 + 3 x 5 s, also in the middle of a statement.
_KEEPALIVE: Final[dict[str, Any]] = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 45_000,
}
_COPY_LINE = re.compile(r"^COPY [^,]+, line (\d+)", re.MULTILINE)
_LOCK_STATES: Final = frozenset({"55P03", "40001", "40P01"})
_SEALED: Final = "55000"


class _ImpatientConnection(Connection):
    """A connection that closes itself when PostgreSQL stays silent for too long.

    Keepalives find a dead machine, not a proxy or a frozen server whose kernel still answers: a
    statement would wait for ever (seen with a stalled proxy, test N03).
    """

    answer_timeout_s = float("inf")

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        """Run one exchange with the server, as psycopg does, but not for ever."""
        return super().wait(self._bounded(gen), *arguments, **options)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        deadline_s = time.monotonic() + self.answer_timeout_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline_s:
                    # A rollback would wait just as long.
                    self.pgconn.finish()
                    raise psycopg.OperationalError("PostgreSQL does not answer")
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value


def connect(
    url: str,
    *,
    application: str,
    role: str | None = None,
    connect_timeout_s: int = CONNECT_TIMEOUT_S,
    answer_timeout_s: float | None = None,
) -> Connection:
    """Open one connection in autocommit mode; time zone UTC.

    Args:
        url: URL of the role that logs in.
        application: Shown in `pg_stat_activity`, prefixed `audit-platform `.
        role: Role to take on, for example `audit_owner` by a maintenance login.
        connect_timeout_s: Longest wait for the server.
        answer_timeout_s: Longest silence during one statement or one piece of a COPY; then the
            connection is closed and the statement fails as unavailable. None: no limit.

    Raises:
        DatabaseUnavailable: No answer.
        PermissionRefused: Wrong password or role.
    """
    with translated():
        connection = _ImpatientConnection.connect(
            url,
            autocommit=True,
            application_name=f"audit-platform {application}"[:63],
            connect_timeout=connect_timeout_s,
            options="-c timezone=UTC",
            **_KEEPALIVE,
        )
    if answer_timeout_s is not None:
        connection.answer_timeout_s = answer_timeout_s
    if role is not None:
        try:
            with translated():
                statement = psycopg.sql.SQL("set role {}").format(psycopg.sql.Identifier(role))
                connection.execute(statement)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def connected(url: str, *, application: str, role: str | None = None) -> Iterator[Connection]:
    """A connection for one block; closed at its end."""
    connection = connect(url, application=application, role=role)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Run a block in one transaction, errors translated; any error rolls it back."""
    with translated(), connection.transaction():
        yield


@contextmanager
def translated() -> Iterator[None]:
    """Turn psycopg's errors into ours."""
    try:
        yield
    except psycopg.Error as exc:
        raise translate(exc) from exc


def translate(exc: psycopg.Error) -> errors.DatabaseError:
    """Choose the class by what a caller would do; no statement, no data in the message.

    Source of the table: delivery design, section 8.
    """
    state = exc.sqlstate
    details: dict[str, Any] = {
        "sqlstate": state,
        "constraint": exc.diag.constraint_name,
        "copy_line": _copy_line(exc.diag.context),
    }
    return _class_of(state, exc)(_message(state, exc), **details)


def _class_of(state: str | None, exc: psycopg.Error) -> type[errors.DatabaseError]:  # noqa: PLR0911 - one table
    if state is None:
        # No state: the connection broke, or the driver refused a value before sending it.
        is_connection = isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError)
        return errors.DatabaseUnavailable if is_connection else errors.RowRefused
    if state in _LOCK_STATES:
        return errors.LockNotAvailable
    if state == "23505":
        return errors.Redelivered
    if state == _SEALED or (state == "23514" and not exc.diag.constraint_name):
        return errors.PartitionMissing
    if state == "42501" or state.startswith("28"):
        return errors.PermissionRefused
    if state.startswith("22") or state in {"23502", "23514", "54000"}:
        return errors.RowRefused
    # 25P02/25P03/57014: a transaction that timed out; the next attempt is a new one.
    if state.startswith(("08", "53", "57P0", "58")) or state in {"25P03", "57014", "XX000"}:
        return errors.DatabaseUnavailable
    return errors.DatabaseError


def _message(state: str | None, exc: psycopg.Error) -> str | None:
    if state in {"28P01", "28000"}:
        return "PostgreSQL refused the login. Check user and password in the AUDIT_*_URL setting."
    if state == "3D000":
        return "The database does not exist. Check AUDIT_DATABASE_URL, or run `audit-platform up`."
    if state in {"42P01", "3F000", "42703"}:
        return "The schema is missing or old. Start the platform: it migrates the database."
    if state == "42501" and "set role" in (exc.diag.message_primary or ""):
        return (
            "This needs the rights of an operator, which the login lacks. Use the login "
            "audit_maint in AUDIT_MAINT_URL."
        )
    if exc.diag.message_primary and state and state.startswith(("42", "0A", "55")):
        return f"PostgreSQL refused a statement ({state}: {exc.diag.message_primary})."
    return None


def _copy_line(context: str | None) -> int | None:
    if not context:
        return None
    lines = _COPY_LINE.findall(context)
    return int(lines[-1]) if lines else None
