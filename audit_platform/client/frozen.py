"""Arguments of one call, copied as they are: what `log()` keeps until the sender makes the event.

Here: the copy and the decision which calls may be copied. Not here: checking, redacting and
encoding (`client/snapshot.py`), which the sender thread does within one linger.
Guarantee: the copy holds no reference to the caller's objects; what cannot be copied exactly, such
as a subclass of dict, is refused here and becomes an event in the call itself.

`marshal` copies the built-in types, nested, in about 1 us; making the event takes about 16 us
(benchmarks/log_call.py; docs/decisions/0006-log-copies-only.md). The copy never leaves the process.
"""

import marshal
import time
from collections.abc import Mapping
from typing import Any, Final, cast

from audit_platform.client.scope import Scope
from audit_platform.events.policy_rules import Decision

# Version 2 knows no references between objects, and is the faster for it.
_MARSHAL_VERSION: Final = 2
_copy: Final = marshal.dumps
# What is larger is judged at once, so that the caller's buffer never holds it.
MAX_FROZEN_BYTES: Final = 65_536


# A call that waits: its arguments, its scope, its microsecond, and what the policies said of it.
# A plain tuple: one is made in every call, and a class would cost as much as the copy.
FrozenCall = tuple[bytes, Scope | None, int, Decision | None]


def freeze(
    action: object, arguments: Mapping[str, object], scope: Scope | None, decision: Decision | None
) -> FrozenCall | None:
    """Copy a call, and note its time.

    Args:
        action: First argument of `log()`.
        arguments: The others, in a dictionary of their own.
        scope: Of the calling thread or task; never changed, so not copied.
        decision: Of the policies; shared and never changed, so not copied.

    Returns:
        None when a value is not of a built-in type, nests without end, or is too large.
    """
    try:
        data = _copy(cast("Any", (action, arguments)), _MARSHAL_VERSION)
    except ValueError:
        return None
    if len(data) > MAX_FROZEN_BYTES:
        return None
    return data, scope, time.time_ns() // 1_000, decision


def thaw(call: FrozenCall) -> tuple[object, Mapping[str, object]]:
    """Action and arguments, equal to those of the call."""
    return cast("tuple[object, Mapping[str, object]]", marshal.loads(call[0]))  # noqa: S302 - own bytes
