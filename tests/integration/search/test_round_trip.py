"""Arbitrary JSON from `log()` through queue and drain into PostgreSQL and out of a search."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from audit_platform.client import AuditClient
from audit_platform.events.drain import run_drain
from audit_platform.privacy.patterns import has_card_shape
from audit_platform.search.hot import Searcher
from audit_platform.search.query import EventQuery
from audit_platform.settings import Settings

pytestmark = pytest.mark.integration

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
# Secrets are masked on purpose (privacy/redact.py): no key may name one, no number be a card's.
keys = st.text("xyz éß日\u202e.\"\\'$%{}", min_size=1, max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40).filter(lambda number: not has_card_shape(str(number)))
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=15,
)
objects = st.dictionaries(keys, values, max_size=5)


@settings(
    max_examples=3,
    deadline=None,
    # Every example is a drain of a second or two: many events each, and no shrinking.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(objects, text), min_size=20, max_size=60))
def test_any_json_comes_back_as_it_was_logged(
    wired: Settings, logged: list[tuple[dict[str, Any], str]]
) -> None:
    tenant = f"t-{uuid4().hex[:8]}"
    with AuditClient(wired) as client:
        for number, (metadata, label) in enumerate(logged):
            client.log(
                "round.trip",
                tenant_id=tenant,
                entity=("case", str(number)),
                user_label=label or None,
                metadata=metadata,
            )
    run_drain(wired, shard=0, run_id="test", dead_run_id=None, report=lambda _: None)

    found = _search(wired, tenant)

    expected = {
        str(number): (metadata, label or None) for number, (metadata, label) in enumerate(logged)
    }
    assert found.keys() == expected.keys()
    assert [(found[key], expected[key]) for key in expected if found[key] != expected[key]] == []


@pytest.fixture
def wired(settings: Settings, tmp_path: Path) -> Settings:
    """The services of this test, with drains that end soon."""
    return settings.model_copy(update={"drain_idle_s": 1.0, "data_dir": tmp_path})


def _search(wired: Settings, tenant: str) -> dict[str, tuple[Any, str | None]]:
    searcher = Searcher(url=wired.database_url_of("reader"), is_operator=False, timeout_s=10)
    with searcher.connected() as connection:
        page = searcher.search(
            connection, EventQuery(tenant_id=tenant, limit=100), now=datetime.now(UTC)
        )
    return {row["entity_id"]: (json.loads(row["metadata"]), row["user_label"]) for row in page.rows}
