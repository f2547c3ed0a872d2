"""What the demo's applications do: repeatable, skewed, and within the limits of an event."""

from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from random import Random

from audit_platform.events.event import TEXT_LIMITS, ActorType, EventStatus
from audit_platform.local.traffic.catalogue import (
    ACTIONS,
    FLOWS,
    Request,
    draw_attack,
    draw_request,
)
from audit_platform.local.traffic.records import records_of, to_columns

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def drawn(count: int) -> list[Request]:
    rng = Random(7)
    return [draw_request(rng) for _ in range(count)]


def test_the_same_seed_gives_the_same_requests() -> None:
    assert drawn(50) == drawn(50)


def test_every_flow_names_known_actions() -> None:
    assert {name for flow in FLOWS for name in flow.steps} == set(ACTIONS)


def test_the_largest_tenant_has_several_times_the_traffic_of_the_smallest() -> None:
    by_tenant = Counter(request.tenant_id for request in drawn(5_000))

    assert by_tenant["harbor-foods"] > 10 * by_tenant["solo-studio"] > 0


def test_a_user_id_of_a_tenant_has_one_name() -> None:
    names: dict[tuple[str, str], set[str]] = {}
    for request in drawn(3_000):
        names.setdefault((request.tenant_id, request.user_id), set()).add(request.user_label)

    assert all(len(labels) == 1 for labels in names.values())


def test_some_events_fail_and_some_are_denied_and_most_succeed() -> None:
    by_status = Counter(step.status for request in drawn(5_000) for step in request.steps)

    assert set(by_status) == {"success", "failure", "denied"}
    assert by_status["success"] > 0.9 * by_status.total()


def test_nothing_follows_a_step_that_did_not_succeed() -> None:
    for request in drawn(5_000):
        assert all(step.status == "success" for step in request.steps[:-1])


def test_every_drawn_value_fits_its_column() -> None:
    for request in drawn(3_000):
        assert ActorType(request.actor_type)
        for record in records_of(Random(1), request, NOON):
            fields = to_columns(record)
            assert EventStatus(fields["status"])
            assert all(len(fields.get(name) or "") <= limit for name, limit in TEXT_LIMITS.items())


def test_an_attack_comes_from_one_address_and_never_succeeds() -> None:
    rng = Random(3)
    tries = list(islice(iter(lambda: draw_attack(rng), None), 200))

    assert {request.ip for request in tries} == {"198.51.100.23"}
    assert {step.status for request in tries for step in request.steps} == {"failure"}
