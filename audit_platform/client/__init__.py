"""The producer SDK: everything an application imports to log events.

    from audit_platform.client import AuditClient

The one package whose `__init__` exports names. It needs `redis` and `pydantic-settings` alone.
"""

from audit_platform.client.client import AuditClient
from audit_platform.client.fields import EventArguments, EventRecord
from audit_platform.client.stats import BreakerState, ClientStats, DropReason
from audit_platform.events.policy import Durability

__all__ = [
    "AuditClient",
    "BreakerState",
    "ClientStats",
    "DropReason",
    "Durability",
    "EventArguments",
    "EventRecord",
]
