"""Events that a producer writes about itself are ordinary events in wire form."""

import json

from audit_platform.client.control_events import ControlEvents
from audit_platform.events.event import MAX_EVENT_BYTES
from audit_platform.events.identity import uuid7_ms

NOW_US = 1_795_000_000_123_456


def make() -> ControlEvents:
    return ControlEvents(name="billing", tenant_id="acme", tail74=lambda: 7, now_us=lambda: NOW_US)


def test_a_loss_names_epoch_reason_and_numbers() -> None:
    (payload,) = make().losses(11, 22, "shed", [(3, 5), (9, 9)])

    event = json.loads(payload)
    assert event["metadata"] == {
        "producer_id": 11,
        "epoch": 22,
        "reason": "shed",
        "ranges": [[3, 5], [9, 9]],
        "name": "billing",
    }
    assert (event["tenant_id"], event["source"], event["actor_type"]) == ("acme", "audit", "system")
    assert uuid7_ms(event["id"]) == NOW_US // 1000
    assert event["timestamp"].endswith(".123456Z")


def test_a_long_list_becomes_several_events_that_fit() -> None:
    ranges = [(2 * number, 2 * number) for number in range(2**60, 2**60 + 1_200)]

    payloads = list(make().losses(2**31 - 1, 2**63 - 1, "buffer_full", ranges))

    assert len(payloads) == 3
    assert max(map(len, payloads)) <= MAX_EVENT_BYTES
    found = [one for payload in payloads for one in json.loads(payload)["metadata"]["ranges"]]
    assert [tuple(one) for one in found] == ranges


def test_an_end_names_every_epoch_of_the_process() -> None:
    event = json.loads(make().end(11, [(22, 100), (23, 1)], is_unclean=True))

    assert event["action"] == "audit.producer.end"
    assert event["metadata"] == {
        "producer_id": 11,
        "ended": [[22, 100], [23, 1]],
        "unclean": True,
        "name": "billing",
    }


def test_counts_of_policies_are_reported() -> None:
    (payload,) = make().not_logged(11, 22, [("user", "page.view", "sampled", 90)])

    event = json.loads(payload)
    assert event["action"] == "audit.producer.sampled"
    assert event["metadata"]["counts"] == [["user", "page.view", "sampled", 90]]
