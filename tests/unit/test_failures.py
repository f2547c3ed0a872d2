"""Every error of ours becomes a failure that names cause and remedy, and says whether to repeat."""

import dagster as dg
import pytest

from audit_platform import errors
from audit_platform.failures import as_failure, dagster_failures


def every_class(root: type[errors.AuditPlatformError]) -> list[type[errors.AuditPlatformError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in every_class(child))]


def make(error_class: type[errors.AuditPlatformError]) -> errors.AuditPlatformError:
    if issubclass(error_class, errors.InvalidEvent):
        return error_class(field="action", problem="is empty", remedy="pass a text")
    return error_class()


@pytest.mark.parametrize("error_class", every_class(errors.AuditPlatformError))
def test_every_error_becomes_a_failure_with_its_retry_decision(
    error_class: type[errors.AuditPlatformError],
) -> None:
    error = make(error_class)

    failure = as_failure(error)

    assert failure.description == error.message
    assert failure.allow_retries is error_class.retryable
    assert failure.metadata["error"].value == error_class.__name__


def test_context_fields_are_shown_and_empty_ones_left_out() -> None:
    failure = as_failure(errors.DatabaseUnavailable(sqlstate="57P01", shard=None))

    assert failure.metadata["sqlstate"].value == "57P01"
    assert "shard" not in failure.metadata


def test_block_translates_ours_and_keeps_the_cause() -> None:
    with pytest.raises(dg.Failure) as caught, dagster_failures():
        raise errors.QueueFull

    assert isinstance(caught.value.__cause__, errors.QueueFull)


def test_block_leaves_other_errors_alone() -> None:
    with pytest.raises(ZeroDivisionError), dagster_failures():
        raise ZeroDivisionError
