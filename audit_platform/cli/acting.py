"""Acts of an operator with the services of a running platform: rights, log, second person.

Here: connections from settings, the event of an act, asking and approving. Not here: the acts and
their options (`cli/hold.py`, `cli/retention.py`), the rule of two persons (`approval.py`).
Guarantee: an act and its event go together: the event is appended last before the commit, and
without it nothing is committed.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final
from uuid import UUID

import typer

from audit_platform.approval import Wanted, ask, decide, list_open
from audit_platform.cli.deadletter_session import system_user
from audit_platform.cli.terminal_text import visible
from audit_platform.db.pool import OWNER_ROLE, Connection, connected, transaction
from audit_platform.errors import InvalidQuery
from audit_platform.events.act_event import Act
from audit_platform.events.act_log import ActLog, opened_act_log
from audit_platform.events.event import ActorType, timestamp_us
from audit_platform.events.identity import TAIL_BITS, mint
from audit_platform.settings import Settings, load_settings

ASKED: Final = 3
"""Exit code of an act that waits for a second person, or for its time."""
LONGEST_TEXT: Final = 500
_REQUEST_ACTION: Final = "audit.approval.request"
_APPROVE_ACTION: Final = "audit.approval.approve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """One operator at work.

    Attributes:
        conn: As the owner, in autocommit mode.
        log: Takes the events of acts.
        settings: Of the platform.
        person: Who acts.
        now: When the command began; one moment for everything it does.
    """

    conn: Connection
    log: ActLog
    settings: Settings
    person: str
    now: datetime
    _recorded: Iterator[int] = field(default_factory=count, repr=False)

    def new_id(self) -> UUID:
        """Mint an id of this moment."""
        return UUID(mint(timestamp_us(self.now), secrets.randbits(TAIL_BITS)))

    def record(
        self,
        action: str,
        *,
        entity_type: str,
        entity_id: str | None,
        description: str,
        metadata: Mapping[str, object],
    ) -> None:
        """Put the event of an act into the stream, last before the commit.

        Raises:
            QueueError: Redis did not take it; the act must not go on.
        """
        act = Act(
            action=action,
            actor=self.person,
            actor_type=ActorType.ADMIN,
            entity_type=entity_type,
            entity_id=entity_id,
            description=description,
            metadata={name: value for name, value in metadata.items() if value is not None},
        )
        # A microsecond apart: the log keeps the order in which things were done.
        self.log.record(act, now=self.now + timedelta(microseconds=next(self._recorded)))

    def may_act(
        self, wanted: Wanted, *, reason: str | None, request: str | None, delay: timedelta
    ) -> bool:
        """Ask for an act of two persons, or approve it; say whether it is to be done now.

        Args:
            wanted: What is to be done.
            reason: One sentence; needed to ask.
            request: Id of the request that is approved; None asks.
            delay: Time between asking and doing.

        Raises:
            InvalidQuery: No reason was given to ask with, or the id is none.
            ApprovalRefused: The request does not allow this act.
        """
        if request is None:
            self._ask(wanted, check_text("--reason", reason), delay=delay)
            return False
        approval, is_due = decide(
            self.conn, wanted, request_id=parse_id(request), person=self.person, now=self.now
        )
        if approval.approved_at == self.now:
            self._record_decision(_APPROVE_ACTION, wanted, approval.request_id)
        if not is_due:
            typer.echo(
                f"approved; it can be done from {approval.not_before:%Y-%m-%d %H:%M}Z on: repeat "
                "this command then"
            )
        return is_due

    def may_change(
        self,
        wanted: Wanted,
        *,
        needs_two: bool,
        reason: str | None,
        request: str | None,
        delay: timedelta,
    ) -> bool:
        """As `may_act`, for an act that needs two persons only in some cases.

        Raises:
            InvalidQuery: A request was named, but one person is enough.
            ApprovalRefused: As `may_act`.
        """
        if needs_two:
            return self.may_act(wanted, reason=reason, request=request, delay=delay)
        if request is not None:
            raise InvalidQuery("this needs no second person; leave --approve out")
        return True

    def _ask(self, wanted: Wanted, reason: str, *, delay: timedelta) -> None:
        made = ask(
            self.conn,
            wanted,
            request_id=self.new_id(),
            reason=reason,
            person=self.person,
            delay=delay,
            now=self.now,
        )
        self._record_decision(_REQUEST_ACTION, wanted, made.request_id, reason=reason)
        after = "" if not delay else f", done from {made.not_before:%Y-%m-%d %H:%M}Z on"
        typer.echo(
            f"asked for: {visible(wanted.target)}{after}\n"
            "another person approves it: the same command with "
            f"--approve {made.request_id}"
        )

    def _record_decision(
        self, action: str, wanted: Wanted, request_id: UUID, *, reason: str | None = None
    ) -> None:
        verb = "Ask for" if action == _REQUEST_ACTION else "Approve"
        self.record(
            action,
            entity_type="approval",
            entity_id=str(request_id),
            description=f"{verb}: {wanted.target}"[:LONGEST_TEXT],
            metadata={"act": wanted.act, **wanted.args, "reason": reason},
        )


@contextmanager
def acting(application: str, user: str | None) -> Iterator[Acting]:
    """Connect as the owner and to the log.

    Args:
        application: Shown in `pg_stat_activity`.
        user: Who acts; None is the system user.

    Raises:
        InvalidSetting: No platform has run here and no URL is set.
        DatabaseUnavailable: PostgreSQL does not answer.
        QueueUnavailable: Redis does not answer: an act that cannot be logged is not done.
    """
    settings = load_settings()
    person = check_text("--user", user or system_user(), longest=100)
    url = settings.database_url_of("maint")
    with (
        connected(url, application=application, role=OWNER_ROLE) as conn,
        opened_act_log(settings) as log,
    ):
        yield Acting(conn=conn, log=log, settings=settings, person=person, now=datetime.now(UTC))


@contextmanager
def looking(application: str) -> Iterator[tuple[Connection, Settings]]:
    """Connect as the owner, to look only.

    Raises:
        InvalidSetting: No platform has run here and no URL is set.
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    settings = load_settings()
    url = settings.database_url_of("maint")
    with connected(url, application=application, role=OWNER_ROLE) as conn:
        yield conn, settings


def open_requests(conn: Connection, act: str, *, now: datetime) -> list[str]:
    """Describe the requests of one kind that wait, one line each."""
    with transaction(conn):
        found = [one for one in list_open(conn, now=now) if one.act == act]
    return [
        f"waiting: {visible(one.target)}, asked for by {visible(one.requested_by)} "
        f"({visible(one.reason)}), "
        + ("approved" if one.approved_by else "needs another person")
        + f", from {one.not_before:%Y-%m-%d %H:%M}Z on: --approve {one.request_id}"
        for one in found
    ]


def check_text(option: str, text: str | None, *, longest: int = LONGEST_TEXT) -> str:
    """Refuse an empty, long or unprintable text.

    Raises:
        InvalidQuery: Names the option.
    """
    if text is None or not text.strip() or len(text) > longest or not text.isprintable():
        raise InvalidQuery(f"{option} needs 1 to {longest} printable characters")
    return text


def parse_id(text: str) -> UUID:
    """Read an id as `list` shows it.

    Raises:
        InvalidQuery: It is none.
    """
    try:
        return UUID(text)
    except ValueError:
        raise InvalidQuery(f"{text[:40]!r} is no id; `list` shows them") from None
