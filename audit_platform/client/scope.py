"""What surrounds a call: fields and context inherited by every `log()` inside `context()`.

Here: the nesting over contextvars, which threads, tasks and coroutines inherit as Python defines.
Not here: validation and redaction, which `client/snapshot.py` does once when a scope is entered.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

INHERITED_FIELDS: Final = frozenset(
    {
        "actor_type",
        "correlation_id",
        "impersonator_id",
        "source",
        "tenant_id",
        "trace_id",
        "user_id",
        "user_label",
    }
)
"""Names that `context()` takes as fields of the event; any other name goes into its context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Checked and redacted values, ready to be copied into an event."""

    fields: Mapping[str, object]
    context: Mapping[str, object]
    context_json: str


# One for all clients of the process: the request that is being served is the same for all.
_current: ContextVar[Scope | None] = ContextVar("audit_platform_scope", default=None)


# The innermost scope of this thread or task; the bound method, since every call asks.
current_scope: Final = _current.get


@contextmanager
def entered(scope: Scope) -> Generator[None]:
    """Make a scope current for the body of a `with` block."""
    token = _current.set(scope)
    try:
        yield
    finally:
        _current.reset(token)
