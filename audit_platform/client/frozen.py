"""Arguments of one call, copied as they are: what `log()` keeps until the sender makes the event.

Here: the copy and the decision which calls may be copied. Not here: checking, redacting and
encoding (`client/snapshot.py`), which the sender thread does within one linger.
Guarantee: the copy holds no reference to the caller's objects; what cannot be copied exactly, such
as a subclass of dict, is refused here and becomes an event in the call itself.

`marshal` copies the built-in types, nested, in about 1 us; making the event takes about 16 us
(benchmarks/log_call.py; docs/decisions/0006-log-copies-only.md). The copy never leaves the process.
"""

import marshal
from collections.abc import Mapping
from typing import Any, Final, cast

from audit_platform.client.scope import Scope
from audit_platform.events.policy_rules import Decision

# Version 2 knows no references between objects, and is the faster for it.
_MARSHAL_VERSION: Final = 2
# What is larger is judged at once, so that the caller's buffer never holds it.
MAX_FROZEN_BYTES: Final = 65_536


class Frozen:
    """One call: its arguments, its scope, its time, and what the policies said of it."""

    __slots__ = ("_data", "decision", "now_us", "scope")

    def __init__(
        self, data: bytes, scope: Scope | None, now_us: int, decision: Decision | None = None
    ) -> None:
        self._data, self.scope, self.now_us, self.decision = data, scope, now_us, decision

    def __len__(self) -> int:
        """Bytes it takes in the buffer, as long as it is no event yet."""
        return len(self._data)

    def thaw(self) -> tuple[object, Mapping[str, object]]:
        """Action and arguments, equal to those of the call."""
        return cast("tuple[object, Mapping[str, object]]", marshal.loads(self._data))  # noqa: S302 - own bytes


def freeze(
    action: object,
    arguments: Mapping[str, object],
    scope: Scope | None,
    *,
    now_us: int,
    decision: Decision | None = None,
) -> Frozen | None:
    """Copy a call.

    Args:
        action: First argument of `log()`.
        arguments: The others, in a dictionary of their own.
        scope: Of the calling thread or task; never changed, so not copied.
        now_us: Microseconds since 1970.
        decision: Of the policies; shared and never changed, so not copied.

    Returns:
        None when a value is not of a built-in type, nests without end, or is too large.
    """
    try:
        data = marshal.dumps(cast("Any", (action, arguments)), _MARSHAL_VERSION)
    except ValueError:
        return None
    return Frozen(data, scope, now_us, decision) if len(data) <= MAX_FROZEN_BYTES else None
