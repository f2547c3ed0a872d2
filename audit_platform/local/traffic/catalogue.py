"""What the demo's applications do: tenants, people, actions, and whole requests (pure).

Here: believable content, drawn from a `random.Random` that the caller seeds. Not here: when
something happens (`traffic_schedule.py`), who sends it (`traffic_producer.py`,
`traffic_legacy.py`), broken events (`traffic_faults.py`).
Guarantee: the same seed gives the same requests.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from audit_platform.local.traffic.values import CHANGES, DETAILS, FIRST_NAMES, LAST_NAMES

TENANTS: Final[Mapping[str, int]] = {
    "harbor-foods": 34,
    "lumen-health": 21,
    "polar-bank": 14,
    "kite-travel": 9,
    "fern-retail": 6,
    "oak-legal": 5,
    "delta-media": 3,
    "mesa-energy": 3,
    "tern-robotics": 2,
    "birch-school": 1,
    "quill-press": 1,
    "solo-studio": 1,
}
"""Tenant and its share of the traffic: a few large ones and a long tail, as real ones have."""

_AGENTS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/143.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 15_6) Safari/605.1",
    "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0",
    "crm-mobile/7.2 (iOS 26.1)",
    "crm-mobile/7.2 (Android 16)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One kind of action and how it usually ends; rates in percent."""

    entity_type: str
    sentence: str
    changes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    failure_pct: float = 0.5
    denied_pct: float = 0.0
    severity: int = 1


ACTIONS: Final[Mapping[str, Action]] = {
    "session.login": Action(
        entity_type="session", sentence="signed in", details=("method", "mfa", "geo"), failure_pct=6
    ),
    "session.logout": Action(entity_type="session", sentence="signed out", failure_pct=0),
    "contact.view": Action(entity_type="contact", sentence="opened a contact", denied_pct=0.7),
    "contact.create": Action(
        entity_type="contact", sentence="added a contact", details=("channel", "tags")
    ),
    "contact.update": Action(
        entity_type="contact", sentence="changed a contact", changes=("email", "owner")
    ),
    "contact.export": Action(
        entity_type="contact_list",
        sentence="exported contacts",
        details=("row_count", "file_name"),
        denied_pct=9,
        severity=3,
    ),
    "deal.update_stage": Action(
        entity_type="deal", sentence="moved a deal", changes=("stage", "amount")
    ),
    "order.place": Action(
        entity_type="order", sentence="placed an order", details=("amount", "currency", "lines")
    ),
    "payment.capture": Action(
        entity_type="payment",
        sentence="captured a payment",
        details=("amount", "currency", "gateway_ms"),
        failure_pct=5,
        severity=2,
    ),
    "invoice.create": Action(
        entity_type="invoice", sentence="issued an invoice", details=("amount", "currency")
    ),
    "email.send": Action(
        entity_type="message", sentence="sent a message", details=("template",), failure_pct=2
    ),
    "document.download": Action(
        entity_type="document",
        sentence="downloaded a document",
        details=("file_name", "size_bytes"),
        denied_pct=2.5,
    ),
    "report.run": Action(
        entity_type="report", sentence="ran a report", details=("row_count", "gateway_ms")
    ),
    "user.invite": Action(entity_type="user", sentence="invited a user", details=("role",)),
    "user.suspend": Action(
        entity_type="user", sentence="suspended a user", changes=("active",), severity=3
    ),
    "role.grant": Action(
        entity_type="user",
        sentence="granted a role",
        changes=("role",),
        denied_pct=12,
        severity=4,
    ),
    "api_key.create": Action(
        entity_type="api_key", sentence="created an API key", details=("scopes",), severity=3
    ),
    "webhook.deliver": Action(
        entity_type="webhook", sentence="delivered a webhook", details=("http",), failure_pct=11
    ),
    "backup.finish": Action(
        entity_type="backup", sentence="finished a backup", details=("size_bytes", "exact")
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A chain of actions that one request does, with its share of all requests."""

    steps: tuple[str, ...]
    weight: float
    source: str = "user"
    actor_type: str = "user"


FLOWS: Final = (
    Flow(steps=("session.login", "contact.view"), weight=14),
    Flow(steps=("contact.view",), weight=22),
    Flow(steps=("contact.view", "contact.update"), weight=14),
    Flow(steps=("contact.create", "email.send"), weight=6),
    Flow(steps=("deal.update_stage", "email.send"), weight=9),
    Flow(steps=("order.place", "payment.capture", "invoice.create", "email.send"), weight=8),
    Flow(steps=("document.download",), weight=7),
    Flow(steps=("report.run", "contact.export"), weight=3, source="api", actor_type="api_key"),
    Flow(steps=("user.invite", "role.grant"), weight=1, source="admin", actor_type="admin"),
    Flow(steps=("user.suspend",), weight=0.6, source="admin", actor_type="admin"),
    Flow(steps=("api_key.create",), weight=0.4, source="admin", actor_type="admin"),
    Flow(steps=("webhook.deliver",), weight=8, source="system", actor_type="service"),
    Flow(steps=("backup.finish",), weight=0.2, source="system", actor_type="system"),
    Flow(steps=("session.logout",), weight=7),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One event to log; `offset_us` counts from the start of its request."""

    action: str
    entity: tuple[str, str]
    entity_label: str
    status: str
    severity: int
    description: str
    offset_us: int
    changes: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of one person: what `AuditClient.context` gets, and the events inside."""

    tenant_id: str
    source: str
    actor_type: str
    user_id: str
    user_label: str
    correlation_id: str
    ip: str
    user_agent: str
    session_id: str
    steps: tuple[Step, ...]


def draw_request(rng: random.Random, *, flow: Flow | None = None) -> Request:
    """Draw what one person of one tenant does next.

    Args:
        rng: Seeded by the caller.
        flow: A fixed chain, None draws one by weight.
    """
    flow = flow or rng.choices(FLOWS, weights=_FLOW_WEIGHTS)[0]
    tenant_id = rng.choices(_TENANT_IDS, weights=_TENANT_WEIGHTS)[0]
    person = min(int(rng.expovariate(1.6) * TENANTS[tenant_id]), TENANTS[tenant_id] * 4)
    first, last = _person_name(tenant_id, person)
    return Request(
        tenant_id=tenant_id,
        source=flow.source,
        actor_type=flow.actor_type,
        user_id=f"u-{person:04d}",
        user_label=f"{first} {last}",
        correlation_id=f"req-{rng.getrandbits(48):012x}",
        ip=f"203.0.113.{person % 254 + 1}",
        user_agent=_AGENTS[person % len(_AGENTS)],
        session_id=f"s-{person:04d}-{rng.randrange(40):02d}",
        steps=_draw_steps(rng, flow, first),
    )


def draw_attack(rng: random.Random) -> Request:
    """Draw one try of somebody guessing passwords: always refused, always from one address."""
    request = draw_request(rng, flow=_SIGN_IN)
    guess = replace(
        request.steps[0],
        status="failure",
        severity=4,
        description="Sign-in refused: wrong password",
        metadata={"method": "password", "attempt": rng.randrange(1, 400)},
    )
    return replace(
        request,
        tenant_id="polar-bank",
        ip="198.51.100.23",
        user_agent="python-requests/2.32",
        session_id="none",
        steps=(guess,),
    )


def _draw_steps(rng: random.Random, flow: Flow, first_name: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    offset_us = 0
    for name in flow.steps:
        step = _draw_step(rng, name, first_name, offset_us)
        steps.append(step)
        if step.status != "success":
            break  # what failed or was refused has no next step
        offset_us += rng.randrange(2_000, 900_000)
    return tuple(steps)


def _draw_step(rng: random.Random, name: str, first_name: str, offset_us: int) -> Step:
    action = ACTIONS[name]
    status = _draw_status(rng, action)
    # Squared, so that a few entities have long histories and most have short ones.
    entity_no = int(rng.random() ** 2 * 4_000)
    outcome = {"success": "", "failure": " – failed", "denied": " – not allowed"}[status]
    return Step(
        action=name,
        entity=(action.entity_type, f"{action.entity_type[:3]}-{entity_no:05d}"),
        entity_label=f"{action.entity_type.replace('_', ' ').capitalize()} {entity_no}",
        status=status,
        severity=action.severity if status == "success" else max(action.severity, 3),
        description=f"{first_name} {action.sentence}{outcome}",
        offset_us=offset_us,
        changes={key: CHANGES[key](rng) for key in action.changes} or None,
        metadata={key: DETAILS[key](rng) for key in action.details},
    )


def _draw_status(rng: random.Random, action: Action) -> str:
    draw = rng.random() * 100
    if draw < action.failure_pct:
        return "failure"
    return "denied" if draw < action.failure_pct + action.denied_pct else "success"


def _person_name(tenant_id: str, person: int) -> tuple[str, str]:
    # From the number, not drawn: one user id has one name in every event.
    salt = sum(tenant_id.encode()) + person * 7
    return FIRST_NAMES[salt % len(FIRST_NAMES)], LAST_NAMES[salt * 5 % len(LAST_NAMES)]


_TENANT_IDS: Final = tuple(TENANTS)
_TENANT_WEIGHTS: Final = tuple(TENANTS.values())
_FLOW_WEIGHTS: Final = tuple(flow.weight for flow in FLOWS)
_SIGN_IN: Final = Flow(steps=("session.login",), weight=0, actor_type="anonymous")
