"""A client that lingers without Redis, and what waits in its buffer."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from audit_platform.client import AuditClient

NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def client() -> Iterator[AuditClient]:
    # A preset that lingers: what was logged stays in the buffer.
    made = AuditClient.from_env(redis_url=NOBODY, batch_preset="low", tenant_id="acme")
    yield made
    made.close(0)


def logged(client: AuditClient) -> list[dict[str, Any]]:
    """Events that wait in the buffer."""
    client._core.make_events()
    run = client._core.buffer.take()
    return [] if run is None else [json.loads(payload) for payload in run.payloads]
