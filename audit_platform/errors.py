"""The error tree: one class per thing that a caller would do differently.

Here: classes, their default message (the first docstring paragraph: cause, then remedy),
whether a retry can help, the exit code of the command line.
Not here: translation from libraries, which happens once at the edge that owns the library
(`db/pool.py`, `events/stream.py`), and to Dagster in `failures.py`.

Length: the tree is one picture, and its classes are read beside it.

    AuditPlatformError
    ├── InvalidSetting            a setting is missing or out of range
    ├── StartRefused              the platform would be unsafe or cannot start
    │   ├── AlreadyRunning
    │   ├── PortTaken
    │   ├── ServiceUnreachable
    │   ├── WrongServerVersion
    │   └── DiskFull
    ├── NotRunning                no platform behind this data directory
    ├── InvalidEvent              one event cannot be accepted
    ├── AuditUnavailable          a `durable` event was not accepted; retryable
    ├── InvalidQuery              a filter or a cursor cannot be used
    ├── InvalidMapping            a mapping file is wrong
    ├── InvalidPolicy             a policies file is missing or wrong
    ├── ApprovalRefused           an act of two persons may not go on
    ├── UnreadableFile            an import file cannot be read as its format
    ├── QueueError
    │   ├── QueueUnavailable      retryable
    │   ├── QueueFull             retryable
    │   └── GroupMissing
    ├── SpoolError                the producer's disk spool
    │   ├── SpoolFull             retryable
    │   └── SpoolFailed
    ├── ArchiveError              the archive of sealed partitions
    │   ├── ArchiveFull           retryable
    │   ├── ArchiveReadOnly
    │   ├── ArchiveUnavailable    retryable
    │   ├── ArchiveMissing        a file is not there
    │   ├── ArchiveDamaged        a file is not what its manifest says
    │   └── ArchiveMismatch       the rows are not those that were sealed
    ├── LifecycleError            a step of a partition's life was not taken
    │   ├── PartitionBusy         retryable: another process works on the partition
    │   ├── PartitionLost         the partition or its table is not there
    │   ├── SealRefused           its rows contradict each other
    │   └── StepRefused           a proof or a condition of the step is missing
    └── DatabaseError
        ├── DatabaseUnavailable   retryable
        ├── LockNotAvailable      retryable
        ├── Redelivered           a unique key exists already
        ├── PartitionMissing      no partition takes the row, or it is sealed
        ├── RowRefused            the database refuses one row
        ├── RowCountMismatch      COPY stored another number of rows than sent
        ├── PermissionRefused     the role lacks a right
        └── FenceLost             another run holds the lease
"""

from typing import ClassVar


class AuditPlatformError(Exception):
    """Something failed. Run `audit-platform doctor` to see what is wrong."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None, **fields: object) -> None:
        """Keep the message and the fields that give it context.

        Args:
            message: Cause, then remedy; None takes the first paragraph of the class docstring.
            **fields: Context for logs and for callers; never a secret, SQL or payload.
        """
        self.fields = fields
        super().__init__(message or _first_paragraph(type(self)))

    @property
    def message(self) -> str:
        """The sentence for people: cause, then remedy."""
        return str(self.args[0])


def _first_paragraph(error_class: type[AuditPlatformError]) -> str:
    documentation = error_class.__doc__ or AuditPlatformError.__doc__ or ""
    return " ".join(documentation.strip().split("\n\n")[0].split())


class InvalidSetting(AuditPlatformError):
    """A setting is missing or out of range. Correct the named AUDIT_ variable."""

    exit_code = 2


class StartRefused(AuditPlatformError):
    """The platform cannot start safely. Mend the named item and start again."""


class AlreadyRunning(StartRefused):
    """A platform already runs on this data directory. Use it, or run `audit-platform down`."""


class PortTaken(StartRefused):
    """A port is in use by another program. Change the named setting."""


class ServiceUnreachable(StartRefused):
    """A service does not answer under its URL. Check the named setting and the service."""


class WrongServerVersion(StartRefused):
    """A server is too old. PostgreSQL 16 or later and Redis 6.2 or later are needed."""


class DiskFull(StartRefused):
    """The disk of the data directory is full. Free space, or set AUDIT_DATA_DIR to another disk."""


class NotRunning(AuditPlatformError):
    """No platform runs on this data directory. Start one with `audit-platform up`."""


class InvalidEvent(AuditPlatformError):
    """An event cannot be accepted. Correct the named field."""

    def __init__(self, *, field: str, problem: str, remedy: str) -> None:
        """Name the field, what is wrong with it and what to do.

        Args:
            field: Column name, or a path such as `metadata.a.b`.
            problem: What was found; no payload beyond a short value.
            remedy: What the producer should send instead.
        """
        self.field, self.problem, self.remedy = field, problem, remedy
        super().__init__(f"{field}: {problem}; {remedy}", field=field)


class AuditUnavailable(AuditPlatformError):
    """A durable event was not accepted. Mend the disk of AUDIT_SPOOL_DIR and log it again."""

    retryable = True


class InvalidQuery(AuditPlatformError):
    """A filter or a cursor cannot be used. Correct the named option."""

    exit_code = 2


class InvalidMapping(AuditPlatformError):
    """A mapping file is wrong. Correct the named rule."""

    exit_code = 2


class InvalidPolicy(AuditPlatformError):
    """A policies file is missing or wrong. Correct the named rule; `policies check` tests it."""

    exit_code = 2


class ApprovalRefused(AuditPlatformError):
    """An act needs the word of a second person. Another one approves the request as it is."""


class UnreadableFile(AuditPlatformError):
    """A file cannot be read in its format. Check the file, or name its format with --format."""


class QueueError(AuditPlatformError):
    """Redis refused a command. Check the Redis server and its access rules."""


class QueueUnavailable(QueueError):
    """Redis does not answer. Check AUDIT_REDIS_URL and the server."""

    retryable = True


class QueueFull(QueueError):
    """Redis takes no more entries: memory or disk is full. Free it, or let it drain."""

    retryable = True


class GroupMissing(QueueError):
    """The consumer group does not exist. It is created again at 0."""


class SpoolError(AuditPlatformError):
    """The disk spool did not take the events. Check the disk below AUDIT_SPOOL_DIR."""


class SpoolFull(SpoolError):
    """The disk spool is full. Free disk space, or raise AUDIT_SPOOL_MAX_BYTES."""

    retryable = True


class SpoolFailed(SpoolError):
    """The disk spool cannot be used. Check AUDIT_SPOOL_DIR: disk, file system and rights."""


class LifecycleError(AuditPlatformError):
    """A step of a partition's life was not taken. `audit-platform partitions` shows why."""


class PartitionBusy(LifecycleError):
    """Another process works on this partition. Let it finish; the step is repeated."""

    retryable = True


class PartitionLost(LifecycleError):
    """A partition or its table is not there. `audit-platform partitions` shows which are."""


class SealRefused(LifecycleError):
    """Rows of a partition contradict each other. It keeps no root until they are put right."""


class StepRefused(LifecycleError):
    """A proof or a condition of this step is missing. Mend the named item; the step is repeated."""


class ArchiveError(AuditPlatformError):
    """The archive refused an operation. Check AUDIT_ARCHIVE_URL and what lies under it."""


class ArchiveFull(ArchiveError):
    """The archive takes no more bytes. Free space there; the step is tried again."""

    retryable = True


class ArchiveReadOnly(ArchiveError):
    """The archive cannot be written. Mount it writable, or give this process the right to write."""


class ArchiveUnavailable(ArchiveError):
    """The archive does not answer. Check AUDIT_ARCHIVE_URL, the network and the disk."""

    retryable = True


class ArchiveMissing(ArchiveError):
    """A file is not in the archive. Take it from the second copy, or restore it from a backup."""


class ArchiveDamaged(ArchiveError):
    """An archived file is not what was written. Replace it by the second copy and verify again."""


class ArchiveMismatch(ArchiveError):
    """The rows of a partition are not those of its seal. Find out who changed it, then go on."""


class DatabaseError(AuditPlatformError):
    """PostgreSQL refused a statement. See the server log for the statement."""

    def __init__(
        self,
        message: str | None = None,
        *,
        sqlstate: str | None = None,
        constraint: str | None = None,
        copy_line: int | None = None,
        **fields: object,
    ) -> None:
        """Keep what the server said about the failure.

        Args:
            message: Cause, then remedy.
            sqlstate: Five characters of PostgreSQL, None when the connection broke.
            constraint: Name of the violated constraint, if the server named one.
            copy_line: 1-based line of the COPY input the server named, if any.
            **fields: Further context.
        """
        self.sqlstate, self.constraint, self.copy_line = sqlstate, constraint, copy_line
        super().__init__(message, sqlstate=sqlstate, **fields)


class DatabaseUnavailable(DatabaseError):
    """PostgreSQL does not answer. Check the server and the AUDIT_*_URL settings."""

    retryable = True


class LockNotAvailable(DatabaseError):
    """A lock was not granted in time. The statement is tried again."""

    retryable = True


class Redelivered(DatabaseError):
    """A row with this key is stored already. The batch takes the merge path."""


class PartitionMissing(DatabaseError):
    """No open partition takes the row. The row is kept as late."""


class RowRefused(DatabaseError):
    """PostgreSQL refuses a row. The row goes to the dead letters, the others are stored."""


class RowCountMismatch(DatabaseError):
    """COPY stored another number of rows than were sent. The transaction was rolled back."""


class PermissionRefused(DatabaseError):
    """The role lacks a right. Run `audit-platform doctor`; migrations grant what roles need."""


class FenceLost(DatabaseError):
    """Another run holds the lease of this shard. This run ends; nothing was stored by it."""
