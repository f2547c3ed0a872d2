"""Self-checks: is it safe to start, is it well (`audit-platform doctor`).

Here: the list of checks; each looks at one thing and returns a result with its remedy. Nothing is
printed and nothing changed. Not here: who refuses to start (`local/readiness.py`), how results
are shown (`cli/doctor.py`).
Guarantee: `run_checks` never raises for a service that is away or refuses: that is a result.

Length: one list of short checks; apart from it each would be a file with three lines of its own.

Source: delivery design, section 6 (Redis); security design, sections 2 and 5 (S10, S12, S40).
"""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from audit_platform.db.pool import Connection, connected, translated
from audit_platform.db.queries import load_queries
from audit_platform.errors import AuditPlatformError, QueueError, QueueUnavailable
from audit_platform.events.backlog import Inspector
from audit_platform.events.overload import level_of
from audit_platform.retention.lifecycle import find_granted, read_runway
from audit_platform.settings import Settings

MOST_CLOCK_DIFFERENCE_S: Final = 5.0
LEAST_FREE_BYTES: Final = 256 << 20
LOW_FREE_BYTES: Final = 2 << 30

READ_COLUMNS: Final = frozenset({"tenant_id", "timestamp", "id", "leaf_hash"})
WRITER_RIGHTS: Final = frozenset(
    {
        (table, None, "INSERT")
        for table in ("event", "event_late", "dead_letter", "ingest_batch", "ingest_range")
    }
    | {(table, column, "SELECT") for table in ("event", "event_late") for column in READ_COLUMNS}
    | {(table, None, "SELECT") for table in ("event_shape", "partition")}
    | {("drain_lease", None, right) for right in ("SELECT", "INSERT", "UPDATE")}
    | {
        (function, None, "EXECUTE")
        for function in (
            *("uuid7_ms", "fold_ranges", "read_watermarks", "list_recent_epochs"),
            *("note_sampled", "note_producer_names"),
        )
    }
)
# What each user of the design may run; more than this is a finding, less shows by itself.
USER_COMMANDS: Final = {
    "producer": "xadd hget hmget ping wait",
    "consumer": (
        "xreadgroup xautoclaim xclaim xpending xack xdel xlen xinfo multi exec hset hkeys ping"
    ),
    "sensor": "xread xlen xinfo xpending ping",
    "janitor": (
        "xgroup|create xinfo xlen xpending xtrim hset hdel hscan info config|get acl|getuser ping"
    ),
}
# Redis 6.2 describes a user by the category that covers most of its commands, less the others.
STREAM_COMMANDS: Final = frozenset(
    f"x{name}"
    for name in (
        *("ack", "add", "autoclaim", "claim", "del", "group", "info", "len", "pending"),
        *("range", "read", "readgroup", "revrange", "setid", "trim"),
    )
)
DURABILITY_SETTINGS: Final = ("fsync", "full_page_writes", "synchronous_commit")
ROLE_ATTRIBUTES: Final = (
    "an attribute such as SUPERUSER or BYPASSRLS",
    "membership in another role",
)
REDIS_POLICY: Final = {"maxmemory-policy": "noeviction", "appendonly": "yes"}


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: What was looked at.
        outcome: Verdict.
        finding: What was found, in one clause.
        remedy: What to do; empty for ok.
        refuses_start: Whether the platform must not start like this.
    """

    name: str
    outcome: Outcome
    finding: str
    remedy: str = ""
    refuses_start: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """What the checks look at; open while they run."""

    settings: Settings
    clock: Callable[[], datetime]
    writer: Connection
    maint: Connection
    redis: Inspector


Check = Callable[[str, Edges], CheckResult]


def run_checks(settings: Settings, *, clock: Callable[[], datetime]) -> tuple[CheckResult, ...]:
    """Run every check; the order of the results is fixed.

    Args:
        settings: Of the running platform.
        clock: Gives the aware time of this machine, to be compared with the server's.
    """
    local = (_check_keys(settings), _check_disk(settings))
    with ExitStack() as stack:
        try:
            edges = Edges(
                settings=settings,
                clock=clock,
                writer=stack.enter_context(
                    connected(settings.database_url_of("writer"), application="doctor")
                ),
                maint=stack.enter_context(
                    connected(settings.database_url_of("maint"), application="doctor")
                ),
                redis=stack.enter_context(
                    Inspector(settings.redis_url_of("janitor"), key_prefix=settings.key_prefix)
                ),
            )
        except AuditPlatformError as exc:
            return (*local, _away("PostgreSQL", exc))
        return (*local, *(_run(name, check, edges) for name, check in CHECKS.items()))


def _run(name: str, check: Check, edges: Edges) -> CheckResult:
    try:
        with translated():
            return check(name, edges)
    except AuditPlatformError as exc:
        return _away(name, exc)


def _ok(name: str, finding: str) -> CheckResult:
    return CheckResult(name=name, outcome=Outcome.OK, finding=finding)


def _warn(name: str, finding: str, remedy: str) -> CheckResult:
    return CheckResult(name=name, outcome=Outcome.WARN, finding=finding, remedy=remedy)


def _fail(name: str, finding: str, remedy: str) -> CheckResult:
    return CheckResult(name=name, outcome=Outcome.FAIL, finding=finding, remedy=remedy)


def _refuse(name: str, finding: str, remedy: str) -> CheckResult:
    return replace(_fail(name, finding, remedy), refuses_start=True)


def _away(name: str, exc: AuditPlatformError) -> CheckResult:
    cause, _, remedy = exc.message.partition(". ")
    return _refuse(name, cause.rstrip("."), remedy.rstrip(".") or "see the log of the service")


def _check_keys(settings: Settings) -> CheckResult:
    keys = ("dead_letter_key", "cursor_key")
    missing = [f"AUDIT_{key.upper()}" for key in keys if getattr(settings, key) is None]
    if missing:
        remedy = "start the platform once, or set 32 random bytes in base64"
        return _refuse("keys", f"{' and '.join(missing)} not set", remedy)
    return _ok("keys", "dead letters and cursors have keys")


def _check_disk(settings: Settings) -> CheckResult:
    name, directory = "disk space", settings.data_dir.absolute()
    try:
        free_bytes = shutil.disk_usage(directory if directory.exists() else directory.parent).free
    except OSError as exc:
        finding = f"{directory} cannot be read ({(exc.strerror or '').lower()})"
        return _fail(name, finding, "set AUDIT_DATA_DIR to a directory that you may write")
    finding = f"{free_bytes >> 20} MiB free for {directory}"
    remedy = "free space, or set AUDIT_DATA_DIR to another disk"
    if free_bytes < LEAST_FREE_BYTES:
        return _refuse(name, finding, remedy)
    return _warn(name, finding, remedy) if free_bytes < LOW_FREE_BYTES else _ok(name, finding)


def _check_durability(name: str, edges: Edges) -> CheckResult:
    """Asked as the writer, because each role may have its own synchronous_commit."""
    row = edges.writer.execute(load_queries("platform")["read_durability"]).fetchone() or ()
    off = [
        setting for setting, value in zip(DURABILITY_SETTINGS, row, strict=True) if value == "off"
    ]
    if off:
        finding = f"{' and '.join(off)} off for audit_writer: acknowledged events can be lost"
        return _refuse(name, finding, "turn it on in postgresql.conf and for the role")
    return _ok(name, f"{', '.join(DURABILITY_SETTINGS)} are on")


def _check_writer(name: str, edges: Edges) -> CheckResult:
    queries = load_queries("platform")
    rights = {tuple(row) for row in edges.maint.execute(queries["list_writer_rights"]).fetchall()}
    excess = sorted(
        f"{right} on {table}{f'.{column}' if column else ''}"
        for table, column, right in rights - WRITER_RIGHTS
    )
    attributes = edges.maint.execute(queries["read_writer_attributes"]).fetchone() or (True, True)
    for has_it, what in zip(attributes, ROLE_ATTRIBUTES, strict=True):
        excess += [what] if has_it else []
    if excess:
        remedy = "revoke it: the writer may add events and nothing else"
        return _refuse(name, f"audit_writer has {', '.join(excess)}", remedy)
    return _ok(name, f"{len(rights)} rights, none too many")


def _check_grants(name: str, edges: Edges) -> CheckResult:
    granted = find_granted(edges.maint)
    if granted:
        finding = f"somebody may read {', '.join(granted)} past the tenant filter"
        return _refuse(name, finding, "revoke all rights on partitions but those of audit_owner")
    return _ok(name, "none")


def _check_runway(name: str, edges: Edges) -> CheckResult:
    reach = read_runway(edges.maint, now=edges.clock())
    finding = f"{reach.partitions} partitions, {reach.days:.1f} days"
    if reach.partitions < edges.settings.partitions_alarm:
        remedy = "start the platform, or materialise the asset table_partitions"
        return _refuse(name, finding, remedy)
    return _ok(name, finding)


def _check_clock(name: str, edges: Edges) -> CheckResult:
    before = edges.clock()
    row = edges.writer.execute(load_queries("platform")["read_clock"]).fetchone()
    # The middle of the round trip, so that a slow answer is not taken for a wrong clock.
    middle = before + (edges.clock() - before) / 2
    difference_s = abs((row[0] - middle).total_seconds()) if row else float("inf")
    finding = f"{difference_s:.3f} s apart from PostgreSQL"
    if difference_s > MOST_CLOCK_DIFFERENCE_S:
        return _refuse(name, finding, "set the clocks of both machines by NTP")
    return _ok(name, finding)


def _check_redis_policy(name: str, edges: Edges) -> CheckResult:
    try:
        found = {key: edges.redis.configuration(key) for key in REDIS_POLICY}
    except QueueUnavailable:
        raise
    except QueueError:
        wanted = "make sure that it has appendonly yes and maxmemory-policy noeviction"
        return _warn(name, "the server does not show its configuration", wanted)
    wrong = {key: found[key] for key, wanted in REDIS_POLICY.items() if found[key] != wanted}
    if wrong:
        finding = " and ".join(f"{key} is {value or 'unknown'}" for key, value in wrong.items())
        remedy = "set " + ", ".join(f"{key} {REDIS_POLICY[key]}" for key in wrong)
        return _refuse(name, f"{finding}: waiting events can be lost", remedy)
    return _ok(name, "noeviction, append-only file on")


def _check_redis_memory(name: str, edges: Edges) -> CheckResult:
    try:
        memory = edges.redis.memory()
    except QueueUnavailable:
        raise
    except QueueError:
        return _warn(name, "the server does not show its memory", "allow the janitor INFO")
    if not memory.limit_bytes:
        remedy = "set maxmemory below the memory of its machine"
        return _fail(name, "no limit: a backlog could take the whole machine", remedy)
    finding = f"{memory.used_bytes >> 20} of {memory.limit_bytes >> 20} MiB used"
    if level_of(0.0, memory.share):
        return _warn(name, finding, "see why the drain is behind, or raise maxmemory")
    return _ok(name, finding)


def _check_redis_users(name: str, edges: Edges) -> CheckResult:
    settings = edges.settings
    urls = {
        "producer": settings.redis_url.get_secret_value(),
        "consumer": settings.redis_url_of("consumer"),
        "sensor": settings.redis_url_of("sensor"),
        "janitor": settings.redis_url_of("janitor"),
    }
    logins = {user: urlsplit(url).username or "default" for user, url in urls.items()}
    if len(set(logins.values())) == 1:
        finding = f"the user `{logins['producer']}` serves every role"
        return _warn(name, finding, "make one user per role and set AUDIT_REDIS_*_URL")
    try:
        rules = {user: edges.redis.commands_of(login) for user, login in logins.items()}
    except QueueUnavailable:
        raise
    except QueueError:
        finding = "the server does not show the rules of its users"
        return _warn(name, finding, "allow the janitor ACL GETUSER")
    excess = sorted(
        f"{logins[user]} {command}"
        for user, allowed in USER_COMMANDS.items()
        for command in granted_commands(rules[user] or frozenset()) - set(allowed.split())
    )
    if excess:
        remedy = "set the users by ACL SETUSER as in the redis.conf of an embedded server"
        return _fail(name, f"rights beyond the design: {', '.join(excess)}", remedy)
    return _ok(name, "one per role, none with more rights than it needs")


def granted_commands(rules: frozenset[str]) -> set[str]:
    """Tell which commands the rules of a Redis user grant; a category stays as `@name`."""
    granted = {rule[1:] for rule in rules if rule.startswith("+")}
    if "@stream" in granted:
        granted = granted - {"@stream"} | STREAM_COMMANDS
    return granted - {rule[1:] for rule in rules if rule.startswith("-")}


def _check_groups(name: str, edges: Edges) -> CheckResult:
    shards = range(edges.settings.shards)
    missing = [str(shard) for shard in shards if not edges.redis.has_group(shard)]
    if missing:
        remedy = "start the platform: it creates them at 0"
        return _refuse(name, f"none in shard {', '.join(missing)}", remedy)
    return _ok(name, f"there in {len(shards)} of {len(shards)} shards")


CHECKS: Final[dict[str, Check]] = {
    "PostgreSQL durability": _check_durability,
    "writer privileges": _check_writer,
    "partition grants": _check_grants,
    "partitions ahead": _check_runway,
    "clock": _check_clock,
    "Redis policy": _check_redis_policy,
    "Redis memory": _check_redis_memory,
    "Redis users": _check_redis_users,
    "consumer groups": _check_groups,
}
