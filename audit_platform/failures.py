"""Our errors as Dagster shows them; the only place where that translation happens.

Here: one block that op and asset bodies run inside. Not here: retries of transient errors, which
the domain does itself. Errors that are not ours pass unchanged: their trace is the information.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from audit_platform.errors import AuditPlatformError


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
