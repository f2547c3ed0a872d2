"""Broken events of the demo: each broken in its own way, each found again by its key."""

import json
from datetime import UTC, datetime
from random import Random

import pytest

from audit_platform.local.traffic.catalogue import draw_request
from audit_platform.local.traffic.faults import FAULTS, event_key
from audit_platform.local.traffic.records import Record, records_of, to_json, to_legacy, without_id

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def record(seed: int = 1) -> Record:
    rng = Random(seed)
    return next(records_of(rng, draw_request(rng), NOON))


@pytest.mark.parametrize("kind", FAULTS)
def test_two_broken_events_of_a_kind_have_two_keys(kind: str) -> None:
    keys = {event_key(FAULTS[kind].spoil(record(seed))) for seed in range(20)}

    assert len(keys) == 20


@pytest.mark.parametrize("kind", ["not JSON", "cut off", "not UTF-8"])
def test_bytes_without_a_readable_id_are_named_by_their_digest(kind: str) -> None:
    assert event_key(FAULTS[kind].spoil(record())).startswith("sha256:")


@pytest.mark.parametrize("kind", sorted(set(FAULTS) - {"not JSON", "cut off", "not UTF-8"}))
def test_a_broken_event_with_a_readable_id_is_named_by_it(kind: str) -> None:
    raw = FAULTS[kind].spoil(record())

    assert event_key(raw) == json.loads(raw)["id"]


def test_an_event_in_the_future_has_an_id_of_the_same_future() -> None:
    fields = json.loads(FAULTS["timestamp three hours ahead"].spoil(record()))

    ahead_ms = datetime.fromisoformat(fields["createdAt"]).timestamp() * 1000
    assert int(fields["id"].replace("-", "")[:12], 16) == int(ahead_ms)


def test_deeply_nested_bytes_do_not_break_the_reader_of_keys() -> None:
    assert event_key(b"[" * 100_000).startswith("sha256:")


def test_a_record_without_an_id_sends_the_number_of_its_own_system() -> None:
    fields = json.loads(to_json(to_legacy(without_id(record(), "AL-1"))))

    assert "id" not in fields
    assert fields["context"]["external_id"] == "AL-1"
