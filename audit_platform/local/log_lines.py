"""Which lines of a supervised process an operator should see (pure).

Here: reading the level out of the line formats of Dagster, uvicorn, PostgreSQL and Redis, and
making a line safe to print. Not here: reading pipes and writing files (`processes.py`).
Guarantee: a line that continues a shown one (a traceback, a DETAIL) is shown with it.
"""

import re
from enum import StrEnum
from typing import Final

# Colours of Dagster's log format; they come whether or not a terminal listens.
ANSI: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# Everything else that could move the cursor, hide text or reorder it: C0, C1, bidi, separators.
UNSAFE: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

QUIET_S: Final = 60.0
_DIGITS = re.compile(r"\d+")
_DAGSTER = re.compile(
    r" - (DEBUG|INFO|WARNING|ERROR|CRITICAL) - |^(DEBUG|INFO|WARNING|ERROR|CRITICAL):"
)
_PYTHON = re.compile(
    r"^Traceback \(most recent call last\):|^\S+\.py:\d+: \w*Warning: |^Fatal Python error"
)
_POSTGRES = re.compile(r"\b(DEBUG\d?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC):  ")
_POSTGRES_SESSION = re.compile(r"the database system is |terminating connection")
# Redis marks even its greeting as a warning (`#`), so its words decide.
_REDIS = re.compile(r"^\d+:[A-Z] .*? ([.\-*#]) (.*)$")
_REDIS_TROUBLE = re.compile(
    r"error|fail|can't|cannot|unable|denied|not enough|misconf|out of memory|bad file|truncat",
    re.IGNORECASE,
)


class LineFormat(StrEnum):
    """Who wrote the line."""

    DAGSTER = "dagster"
    POSTGRES = "postgres"
    REDIS = "redis"


def printable(line: str) -> str:
    """Remove colours and escape what a terminal would act on; one line in, one line out.

    Source: rule S22 of the security design: n events give n lines.
    """
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", ANSI.sub("", line))


class TroubleFilter:
    """Lets warnings, errors and their continuation lines pass; one instance per stream.

    The same trouble, numbers apart, passes once in `QUIET_S`: a service that is away makes each
    of its clients repeat one line several times a second.
    """

    def __init__(self, line_format: LineFormat) -> None:
        """Start as if the last line had been harmless."""
        self._line_format = line_format
        self._is_showing = False
        self._shown_at_s: dict[str, float] = {}

    def passes(self, line: str, *, now_s: float) -> bool:
        """Say whether to show `line`.

        Args:
            line: Without its line end, made `printable`.
            now_s: Of a clock that never goes back.
        """
        match self._line_format:
            case LineFormat.DAGSTER:
                verdict = _dagster_trouble(line)
            case LineFormat.POSTGRES:
                verdict = _postgres_trouble(line)
            case LineFormat.REDIS:
                verdict = _redis_trouble(line)
        if verdict is not None:
            self._is_showing = verdict and self._is_news(_DIGITS.sub("", line), now_s)
        return self._is_showing and bool(line.strip())

    def _is_news(self, kind: str, now_s: float) -> bool:
        recent = {k: at_s for k, at_s in self._shown_at_s.items() if now_s - at_s < QUIET_S}
        is_news = kind not in recent
        self._shown_at_s = recent | {kind: now_s} if is_news else recent
        return is_news


def _dagster_trouble(line: str) -> bool | None:
    if _PYTHON.search(line):
        return True
    found = _DAGSTER.search(line)
    return None if found is None else (found[1] or found[2]) not in {"DEBUG", "INFO"}


def _postgres_trouble(line: str) -> bool | None:
    found = _POSTGRES.search(line)
    # ERROR belongs to one statement and was answered to its client, who reports it: a replayed
    # batch alone causes one unique violation each. It stands in the log file.
    if found is None:
        return None
    # Refused and ended sessions around a restart: the supervisor says that there was one.
    is_session = found[1] == "FATAL" and _POSTGRES_SESSION.search(line) is not None
    return found[1] in {"WARNING", "FATAL", "PANIC"} and not is_session


def _redis_trouble(line: str) -> bool | None:
    found = _REDIS.match(line)
    if found is None:
        return None
    # What it calls a warning is advice about the kernel, once per start.
    is_advice = found[2].startswith("WARNING ")
    return found[1] == "#" and not is_advice and bool(_REDIS_TROUBLE.search(found[2]))
