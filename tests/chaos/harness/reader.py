"""A reader that polls while faults go on: no row twice, no row gone, and how stale the rows are.

Here: one thread with its own connection. Not here: what should be there (`oracle.py`).
Each poll takes, in one snapshot, the number of rows and the rows that are new since the last one;
every few seconds all ids are compared with those seen before.
"""

import time
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any, Final

import psycopg

from audit_platform.events.identity import uuid7_ms

POLL_S: Final = 0.2
WHOLE_S: Final = 3.0
# With millions of rows the reader looks more rarely, so that it does not become the load.
REST: Final = 5
WHOLE_REST: Final = 20
# Events of these seconds are looked at in every poll, older ones with all the others.
RECENT_S: Final = 5

_COUNT: Final = (
    b"select (select count(*) from audit.event) + (select count(*) from audit.event_late)"
)
_NEW: Final = b"""
select id::text from audit.event_all
where tenant_id = 'default' and "timestamp" > now() - make_interval(secs => %s)
"""
_ALL: Final = b"select id::text from audit.event union all select id::text from audit.event_late"


@dataclass(slots=True)
class Seen:
    """What the reader has seen so far."""

    polls: int = 0
    whole_polls: int = 0
    failed_polls: int = 0
    duplicates: int = 0
    """Polls that showed an id twice."""
    vanished: int = 0
    """Rows that an earlier poll had shown and a later one did not."""
    longest_stall_s: float = 0.0
    """Longest time without an answer of the database."""
    ids: set[str] = field(default_factory=set[str])
    stale_s: list[float] = field(default_factory=list[float])
    """Seconds from the call to the first poll that showed the row."""


class Reader:
    """Polls from `start` to `stop`."""

    def __init__(self, url: str) -> None:
        """Keep the administrator's URL; nothing connects yet."""
        self.seen = Seen()
        self._url = url
        self._stop = Event()
        self._lock = Lock()
        self._rows = 0
        self._newest_ms = 0
        self._whole_due_s = self._answered_s = time.monotonic()
        self._thread = Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def stop(self) -> Seen:
        """Compare everything once more and end."""
        self._stop.set()
        self._thread.join()
        with self._connected() as connection:
            self._look_at_all(connection)
        return self.seen

    def newest_ms(self) -> int:
        """Time of the newest event seen, milliseconds since 1970, by its id."""
        with self._lock:
            return self._newest_ms

    def _connected(self) -> "psycopg.Connection[Any]":
        connection = psycopg.connect(self._url, connect_timeout=2)
        # Count and rows of one poll come from one snapshot.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        return connection

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(psycopg.Error, OSError), self._connected() as connection:
                self._poll_until_broken(connection)
            self.seen.failed_polls += 1
            self._stop.wait(POLL_S)

    def _poll_until_broken(self, connection: Any) -> None:
        while not self._stop.is_set():
            began_s = time.monotonic()
            self._look_at_new(connection)
            took_s = time.monotonic() - began_s
            if time.monotonic() > self._whole_due_s:
                self._look_at_all(connection)
            self._stop.wait(max(POLL_S, REST * took_s))

    def _look_at_new(self, connection: Any) -> None:
        with connection.transaction():
            rows = connection.execute(_COUNT).fetchone()[0]
            found = connection.execute(_NEW, (RECENT_S,)).fetchall()
        self._answered()
        self.seen.vanished += max(0, self._rows - rows)
        self._rows = rows
        self._take([row[0] for row in found])

    def _look_at_all(self, connection: Any) -> None:
        began_s = time.monotonic()
        with connection.transaction():
            found = [row[0] for row in connection.execute(_ALL).fetchall()]
        self._answered()
        self.seen.vanished += len(self.seen.ids - set(found))
        self._take(found)
        self.seen.whole_polls += 1
        now_s = time.monotonic()
        self._whole_due_s = now_s + max(WHOLE_S, WHOLE_REST * (now_s - began_s))

    def _take(self, found: list[str]) -> None:
        distinct = set(found)
        self.seen.duplicates += len(found) != len(distinct)
        new = distinct - self.seen.ids
        now_ms = time.time_ns() // 1_000_000
        made_ms = [uuid7_ms(one) for one in new]
        self.seen.stale_s += [(now_ms - made) / 1000 for made in made_ms]
        self.seen.ids |= new
        self.seen.polls += 1
        with self._lock:
            self._newest_ms = max([self._newest_ms, *made_ms])

    def _answered(self) -> None:
        now_s = time.monotonic()
        self.seen.longest_stall_s = max(self.seen.longest_stall_s, now_s - self._answered_s)
        self._answered_s = now_s
