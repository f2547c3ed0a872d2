"""Our errors as Dagster shows them, and Dagster's errors that must not stop our work.

Here: one block that op and asset bodies run inside; logging that may fail. Not here: retries of
transient errors, which the domain does itself. Errors that are not ours pass unchanged: their
trace is the information.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg

from audit_platform.errors import AuditPlatformError

_LOG = logging.getLogger(__name__)


@contextmanager
def dagster_failures() -> Iterator[None]:
    """Turn our errors into a `Failure` that names cause and remedy.

    An error that no repeat can mend stops op retries; run retries are off for every job.

    Raises:
        Failure: From an `AuditPlatformError`.
    """
    try:
        yield
    except AuditPlatformError as exc:
        raise as_failure(exc) from exc


def as_failure(error: AuditPlatformError) -> dg.Failure:
    """Make the failure: message, class, context fields as metadata, retryable or not."""
    metadata: dict[str, dg.MetadataValue] = {
        "error": dg.MetadataValue.text(type(error).__name__),
        "retryable": dg.MetadataValue.bool(error.retryable),
    }
    for name, value in error.fields.items():
        if value is not None:
            metadata[name] = dg.MetadataValue.text(str(value))
    return dg.Failure(description=error.message, metadata=metadata, allow_retries=error.retryable)


def is_logged(
    log_event: Callable[[dg.AssetObservation], None], observation: dg.AssetObservation
) -> bool:
    """Log an observation; False when Dagster's storage did not take it.

    A drain waits out an outage of PostgreSQL. Dagster's storage usually stands on the same server,
    and an observation that fails there must not end the run: the caller keeps its numbers.
    """
    try:
        log_event(observation)
    except Exception:  # noqa: BLE001 - the storage raises errors of its database driver
        _LOG.warning("Dagster's storage took no observation; its numbers go into the next one")
        return False
    return True
