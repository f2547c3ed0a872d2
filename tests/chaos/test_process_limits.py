"""R09, R10, R12: drains short of memory and descriptors, producers with a wrong clock.

The limited process is a real one; the limit is set inside it, after its imports.
"""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which
from signal import SIGCONT, SIGSTOP
from typing import Any, Final

import pytest

from audit_platform.events.tally import EndReason
from tests.chaos.harness.extent import full_only
from tests.chaos.harness.services import plain
from tests.chaos.harness.traffic import Traffic
from tests.factories import event
from tests.integration.events.shard import Shard, wait_until

pytestmark = pytest.mark.chaos

SHIM: Final = Path(__file__).parent / "harness" / "shifted_clock.c"
TEN_YEARS_S: Final = 10 * 366 * 86_400
MEBIBYTE: Final = 1 << 20

LIMITED_DRAIN: Final = """
import json, resource, sys
from audit_platform.events.drain import run_drain
from audit_platform.settings import load_settings

values, name, limit = json.load(sys.stdin)
settings = load_settings(**values)
if name == "RLIMIT_AS":
    pages = int(open("/proc/self/statm").read().split()[0])
    limit += pages * resource.getpagesize()
if name:
    resource.setrlimit(getattr(resource, name), (limit, limit))
summary = run_drain(settings, shard=0, run_id="limited", dead_run_id=None, report=lambda _: None)
# Not ru_maxrss: that begins with the size of the process that started this one.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([summary.ended_because, int(status["VmHWM"].split()[0])]))
"""

IDLE_IN_TRANSACTION: Final = """
import sys, threading
from audit_platform.db.pool import connect, transaction
from audit_platform.db.queries import load_queries
from audit_platform.errors import DatabaseUnavailable

connection = connect(sys.stdin.readline().strip(), application="frozen")
limits = {"lock_timeout": "2s", "statement_timeout": "60s", "idle_timeout": "1s"}
try:
    with transaction(connection):
        connection.execute(load_queries("events")["limit_transaction"], limits)
        print("inside", flush=True)
        threading.Event().wait(2)
        connection.execute("select 1")
except DatabaseUnavailable as exc:
    print(type(exc).__name__)
"""

PRODUCER: Final = """
import json, sys, threading
from pathlib import Path
from audit_platform.client import AuditClient

values, shifts, shift_file = json.load(sys.stdin)
client = AuditClient.from_env(**values)
for number, shift in enumerate(shifts):
    Path(shift_file).write_text(str(shift))
    client.log("user.suspend", entity=("number", str(number)))
assert client.flush(20)
client.close()
"""


def drain_limited(
    shard: Shard, name: str | None, limit: int = 0, **overrides: Any
) -> "subprocess.CompletedProcess[bytes]":
    """One drain in a process of its own under a limit."""
    values = plain(shard.settings) | {"drain_idle_s": 1, **overrides}
    return subprocess.run(
        [sys.executable, "-c", LIMITED_DRAIN],
        input=json.dumps([values, name, limit]).encode(),
        capture_output=True,
        check=False,
        timeout=100,
    )


def test_with_little_memory_a_backlog_is_drained_in_small_batches(shard: Shard) -> None:
    """R09: a batch is bounded, so that memory follows its size and not the backlog's.

    Most of the address space is what threads reserve; the memory in use is looked at as well.
    """
    traffic = Traffic()
    traffic.add(shard, batches=30, size=500)

    ended = drain_limited(shard, "RLIMIT_AS", 1_100 * MEBIBYTE, drain_batch_rows=1_000)

    assert ended.returncode == 0, ended.stderr.decode()[-2_000:]
    because, most_kb = json.loads(ended.stdout)
    assert because == EndReason.IDLE
    assert most_kb < 500 * 1024
    traffic.check(shard)


@full_only
def test_with_too_little_memory_a_drain_dies_and_the_next_one_stores_all(shard: Shard) -> None:
    """R09, the control: the limit is real. What was read stays pending."""
    traffic = Traffic()
    traffic.add(shard, batches=20, size=500)

    ended = drain_limited(shard, "RLIMIT_AS", 4 * MEBIBYTE)

    assert ended.returncode != 0
    shard.sql.execute(b"update audit.drain_lease set expires_at = now()")
    shard.drain(run_id="next")
    traffic.check(shard)


def test_sixty_four_descriptors_are_enough(shard: Shard) -> None:
    """R10."""
    traffic = Traffic()
    traffic.add(shard, batches=4)

    ended = drain_limited(shard, "RLIMIT_NOFILE", 64)

    assert ended.returncode == 0, ended.stderr.decode()[-2_000:]
    traffic.check(shard)


@full_only
def test_without_descriptors_a_drain_waits_and_the_next_one_stores_all(shard: Shard) -> None:
    """R10, the control: nothing can be opened; the run ends at its age, in order or by an error."""
    traffic = Traffic()
    traffic.add(shard, batches=4)

    ended = drain_limited(shard, "RLIMIT_NOFILE", 3, drain_lifetime_s=5)

    assert not shard.stored_ids()
    assert b"lifetime" in ended.stdout or ended.returncode != 0
    shard.sql.execute(b"update audit.drain_lease set expires_at = now()")
    shard.drain(run_id="next")
    traffic.check(shard)


@pytest.fixture
def clock_shim(tmp_path: Path) -> Path:
    """The library that moves the clock, compiled here."""
    if which("gcc") is None:
        pytest.skip("neither libfaketime nor gcc is installed")
    built = tmp_path / "shifted_clock.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O2", "-o", str(built), str(SHIM), "-ldl"], check=True
    )
    return built


def test_a_wrong_clock_makes_dead_letters_not_losses(
    shard: Shard, clock_shim: Path, tmp_path: Path
) -> None:
    """R12: ten years ahead, an hour back, and right again, while the producer runs."""
    shift_file = tmp_path / "shift"
    shift_file.write_text("0")
    shifts = [0] * 5 + [TEN_YEARS_S] * 5 + [-3_600] * 5 + [0] * 5
    values = {
        "redis_url": shard.settings.redis_url.get_secret_value(),
        "key_prefix": shard.settings.key_prefix,
        "producer_name": "wrong-clock",
        "spool_dir": str(tmp_path / "spool"),
    }
    subprocess.run(
        [sys.executable, "-c", PRODUCER],
        input=json.dumps([values, shifts, str(shift_file)]).encode(),
        env={"LD_PRELOAD": str(clock_shim), "SHIFTED_CLOCK_FILE": str(shift_file)},
        check=True,
        timeout=100,
    )
    shard.drain()

    rows = shard.rows(
        "select entity_id::int, timestamp, producer_seq from audit.event"
        " where entity_type = 'number' order by producer_seq"
    )
    late = [
        json.loads(letter.raw)["entity_id"]
        for letter in shard.letters()
        if json.loads(letter.raw)["entity_type"] == "number"
    ]
    stored = [row[0] for row in rows]
    assert stored == [*range(5), *range(10, 20)], "numbers rise although the clock went back"
    assert sorted(map(int, late)) == list(range(5, 10))
    now = datetime.now(UTC)
    assert all(now - row[1] > timedelta(minutes=50) for row in rows if 10 <= row[0] < 15)


def test_dead_letters_of_a_fast_clock_keep_their_bytes(shard: Shard) -> None:
    """R12: they can be driven again later, since nothing of them is lost."""
    ahead = event(timestamp=datetime.now(UTC) + timedelta(days=3_660))
    shard.add_event(json.dumps(ahead).encode())

    shard.drain()

    (letter,) = shard.letters()
    assert json.loads(letter.raw) == ahead
    assert not shard.stored_ids()


def test_a_transaction_whose_process_froze_is_ended_by_postgresql(shard: Shard) -> None:
    """P09: it would hold its locks for as long as the process sleeps."""
    process = subprocess.Popen(
        [sys.executable, "-c", IDLE_IN_TRANSACTION],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(shard.settings.database_url_of("writer").encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"inside\n"
        process.send_signal(SIGSTOP)
        sessions = "select 1 from pg_stat_activity where application_name like '%frozen%'"
        assert shard.rows(sessions)

        wait_until(lambda: not shard.rows(sessions))

        process.send_signal(SIGCONT)
        output, _ = process.communicate(timeout=30)
    assert output == b"DatabaseUnavailable\n"
