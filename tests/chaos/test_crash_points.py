"""A drain killed at each of its points: lost 0, duplicated 0, the next run takes over at once.

The killed process is a real one that runs `run_drain` with one point armed. Nobody else sends it
a signal, so an exit by SIGKILL proves that it reached the point; the state it leaves behind
proves which side of the commit it died on.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any, Final

import pytest
from pydantic import SecretStr

from audit_platform.events.tally import EndReason
from audit_platform.settings import Settings
from tests.chaos.harness.extent import amount
from tests.factories import event, wire
from tests.integration.events.shard import Shard, wait_until

pytestmark = pytest.mark.chaos

KILLS: Final = amount(2, 5)
"""In a row at one point: two show that what the first left does not stop the second."""
RECOVERY_LIMIT_S: Final = 90
DRAIN: Final = """
import json, sys
from audit_platform.crash_points import arm
from audit_platform.events.drain import run_drain
from audit_platform.settings import load_settings

values, options = json.load(sys.stdin)
settings = load_settings(**values)
arm(settings.crash)
summary = run_drain(settings, shard=0, report=lambda report: None, **options)
print(summary.ended_because)
"""


class Accepted:
    """What went into the stream: good and late events by id, bad ones by their bytes."""

    def __init__(self) -> None:
        self.stored: set[str] = set()
        self.late: set[str] = set()
        self.bad: set[bytes] = set()

    def add_round(self, shard: Shard, number: int) -> None:
        """Add new, late and bad events, and one that was accepted before."""
        new = [event() for _ in range(40)]
        late = event(timestamp=datetime.now(UTC) - timedelta(days=60, seconds=number))
        bad = b'{"round": %d' % number
        shard.add_batch([wire(one) for one in new] + [wire(late), bad], p=1, e=1, s=42 * number + 1)
        self.stored |= {one["id"] for one in new}
        self.late.add(late["id"])
        self.bad.add(bad)

    def check(self, shard: Shard) -> None:
        """Compare sets: lost 0, unexpected 0, duplicated 0; nothing waits; the ledger adds up."""
        stored, late, bad = shard.stored_ids(), shard.late(), [one.raw for one in shard.letters()]
        assert set(stored) == self.stored
        assert len(stored) == len(self.stored)
        assert set(late) == self.late
        assert set(bad) == self.bad
        assert len(bad) == len(self.bad)
        assert shard.waiting() == (0, 0)
        sums = shard.ledger()
        assert sums["n_read"] == sum(sums[name] for name in ("n_new", "n_dup", "n_late", "n_bad"))
        assert (sums["n_new"], sums["n_late"]) == (len(self.stored), len(self.late))


def start_drain(shard: Shard, *, run_id: str, dead_run_id: str | None, **overrides: Any) -> Any:
    """Start a process that drains until idle; settings may be overridden."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRAIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    options = {"run_id": run_id, "dead_run_id": dead_run_id}
    process.stdin.write(json.dumps([_plain(shard.settings) | overrides, options]).encode())
    process.stdin.close()
    process.stdin = None
    return process


def _plain(settings: Settings) -> dict[str, Any]:
    """What the fixture set, as JSON, with the secrets that `model_dump` hides."""
    secrets = {
        name: value.get_secret_value() for name, value in settings if isinstance(value, SecretStr)
    }
    return settings.model_dump(mode="json", exclude_unset=True) | secrets


def _kill_at(shard: Shard, point: str, *, number: int, **overrides: Any) -> None:
    dead_run_id = f"run-{number - 1}" if number else None
    process = start_drain(
        shard, run_id=f"run-{number}", dead_run_id=dead_run_id, crash=point, **overrides
    )
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -SIGKILL, errors.decode()


def _nothing_new(stored_before: int, stored_after: int) -> bool:
    return stored_after == stored_before


def _all_new(stored_before: int, stored_after: int) -> bool:
    return stored_after == stored_before + 40


# Point, and what the first kill there leaves in the table: a rollback or a commit.
POINTS: dict[str, Callable[[int, int], bool]] = {
    "C_READ": _nothing_new,
    "C_DECODED": _nothing_new,
    "C_MIDCOPY": _nothing_new,
    "C_BEFORE_COMMIT": _nothing_new,
    "C_COMMITTED": _all_new,
    "M_STAGED": _nothing_new,
    "M_MERGED": _nothing_new,
}


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_nothing_is_lost_or_stored_twice(shard: Shard, point: str) -> None:
    accepted = Accepted()
    twin = event()
    shard.add_event(wire(twin))
    accepted.stored.add(twin["id"])
    shard.drain(run_id="run-before")

    for number in range(KILLS):
        accepted.add_round(shard, number)
        # A redelivery in each round leads the drain to the merge path, where M_ points are.
        shard.add_event(wire(twin))
        before = len(shard.stored_ids())
        _kill_at(shard, point, number=number)
        after = len(shard.stored_ids())
        assert shard.waiting()[1] > 0, "a run that died held entries"
        assert POINTS[point](before, after)

    started_s = time.monotonic()
    summary = shard.drain(run_id="run-last")
    assert summary.ended_because is EndReason.LEASE_HELD
    shard.sql.execute(b"update audit.drain_lease set expires_at = now()")
    shard.drain(run_id="run-last")
    assert time.monotonic() - started_s < RECOVERY_LIMIT_S
    accepted.check(shard)


def test_killed_after_the_acknowledgement_everything_is_done(shard: Shard) -> None:
    accepted = Accepted()
    accepted.add_round(shard, 0)

    _kill_at(shard, "C_DONE", number=0)

    accepted.check(shard)


def test_killed_within_a_fold_the_ledger_answers_as_before(shard: Shard) -> None:
    answers = "select producer_id, epoch, max_seq, got::text, late::text, dead::text, missing::text"
    accepted = Accepted()
    for number in range(KILLS):
        # Every other round is lost on the way: its numbers must stay missing.
        accepted.add_round(shard, 2 * number)

        _kill_at(shard, "L_FOLD", number=number, drain_idle_s=1)

        accepted.check(shard)
        assert shard.rows("select from audit.ingest_range"), "the fold was rolled back"
        assert not shard.rows("select from audit.producer_progress")
    before = shard.rows(f"{answers} from audit.producer_ledger")
    shard.sql.execute(b"update audit.drain_lease set expires_at = now()")
    shard.drain(run_id="run-last")

    assert not shard.rows("select from audit.ingest_range")
    assert shard.rows(f"{answers} from audit.producer_ledger") == before
    lost = ((84 * number + 43, 84 * number + 85) for number in range(KILLS - 1))
    assert before[0][6] == f"{{{','.join(f'[{first},{end})' for first, end in lost)}}}"


def test_after_a_kill_the_next_run_waits_for_the_lease_and_no_longer(shard: Shard) -> None:
    """Nobody tells the next run that its predecessor died: the lease has to expire."""
    accepted = Accepted()
    accepted.add_round(shard, 0)
    process = start_drain(
        shard, run_id="run-0", dead_run_id=None, crash="C_BEFORE_COMMIT", lease_ttl_s=5
    )
    process.communicate(timeout=60)
    killed_s = time.monotonic()

    wait_until(lambda: shard.drain(run_id="run-1").ended_because is EndReason.IDLE)

    assert 3 < time.monotonic() - killed_s < RECOVERY_LIMIT_S
    accepted.check(shard)


def test_a_run_that_was_frozen_adds_nothing_when_it_wakes(shard: Shard) -> None:
    """F10: its lease expires meanwhile; what it then reads is stored by the run after it."""
    accepted = Accepted()
    accepted.add_round(shard, 0)
    zombie = start_drain(shard, run_id="run-0", dead_run_id=None, lease_ttl_s=5)
    wait_until(lambda: bool(shard.stored_ids()) and shard.waiting() == (0, 0))
    zombie.send_signal(SIGSTOP)
    accepted.add_round(shard, 1)
    wait_until(lambda: shard.drain(run_id="run-1").ended_because is EndReason.IDLE)
    stored = shard.stored_ids()

    accepted.add_round(shard, 2)
    zombie.send_signal(SIGCONT)
    output, errors = zombie.communicate(timeout=60)

    assert output.decode().strip() == EndReason.FENCE_LOST, errors.decode()
    assert shard.stored_ids() == stored
    shard.drain(run_id="run-2")
    accepted.check(shard)


def test_sigterm_ends_a_run_in_order(shard: Shard) -> None:
    accepted = Accepted()
    process = start_drain(shard, run_id="run-0", dead_run_id=None)
    accepted.add_round(shard, 0)
    wait_until(lambda: bool(shard.stored_ids()))

    process.send_signal(SIGTERM)
    output, errors = process.communicate(timeout=30)

    assert process.returncode == 0, errors.decode()
    assert output.decode().strip() == EndReason.STOP
    assert shard.rows("select run_id from audit.drain_lease") == [(None,)]
    shard.drain(run_id="run-1")
    accepted.check(shard)
