"""Calls wait as they are and become events in the sender: nothing of the call may change by it."""

import time
from collections import OrderedDict
from typing import Any

from audit_platform.client import AuditClient, Durability
from audit_platform.client.buffer import MAX_WAITING_CALLS
from audit_platform.client.stats import DropReason
from audit_platform.events.identity import uuid7_ms
from tests.unit.client.conftest import logged


def test_changing_an_argument_after_the_call_changes_no_event(client: AuditClient) -> None:
    metadata: dict[str, Any] = {"tags": ["a"]}

    client.log("a", metadata=metadata)
    metadata["tags"].append("b")

    (event,) = logged(client)
    assert event["metadata"] == {"tags": ["a"]}


def test_call_keeps_its_own_time_scope_and_order(client: AuditClient) -> None:
    before_ms = time.time_ns() // 1_000_000
    with client.context(user_id="7"):
        client.log("first")
    client.log("second", metadata=OrderedDict(made="in the call"))  # marshal refuses a subclass
    client.log("third")
    after_ms = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= after_ms:
        pass

    first, second, third = logged(client)
    assert [first["action"], second["action"], third["action"]] == ["first", "second", "third"]
    assert first["user_id"] == "7"
    assert "user_id" not in second
    for event in (first, second, third):
        assert before_ms <= uuid7_ms(event["id"]) <= after_ms


def test_more_waiting_calls_than_the_sender_takes_become_events_in_the_call(
    client: AuditClient,
) -> None:
    for number in range(MAX_WAITING_CALLS + 10):
        client.log("a", user_id=str(number))

    assert client._core.buffer.waiting_calls == MAX_WAITING_CALLS
    events = logged(client)
    assert [event["user_id"] for event in events] == [
        str(number) for number in range(MAX_WAITING_CALLS + 10)
    ]


def test_invalid_best_effort_call_leaves_room_and_numbers_right(client: AuditClient) -> None:
    client.log("a", durability=Durability.BEST_EFFORT)
    client.log("a", severity=9, durability=Durability.BEST_EFFORT)
    client.log("b", durability=Durability.BEST_EFFORT)
    client._core.make_events()

    runs = [client._core.buffer.take(), client._core.buffer.take()]
    assert [run.first_seq for run in runs if run] == [1, 3]
    assert client.stats().dropped == {DropReason.INVALID: {Durability.BEST_EFFORT: 1}}
