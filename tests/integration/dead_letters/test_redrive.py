"""Bad events go back into the stream, repaired, and are stored once; each act is in the log."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from tests.factories import event, wire
from tests.integration.dead_letters.command import acts, deadletter, done, states, stored
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.integration

FOREIGN = {"happened": "2026-03-01T10:00:00Z", "verb": "door.open", "who": "ada", "floor": 1.10}
MAPPING = """
name: doors
version: 1
description: door controllers
timestamp: {take: [happened]}
fields:
  source: {default: doors}
  action: {take: [verb]}
  user_id: {take: [who]}
"""


def _dead(shard: Shard, *lines: bytes) -> None:
    """Let the ingest job refuse lines, each in an entry of its own."""
    for line in lines:
        shard.add_event(line)
    shard.drain()


def test_a_foreign_record_is_stored_with_a_mapping(shard: Shard, tmp_path: Path) -> None:
    mapping = tmp_path / "doors.yaml"
    mapping.write_text(MAPPING)
    recent = FOREIGN | {"happened": datetime.now(UTC).isoformat()}
    _dead(shard, wire(recent))

    printed = done("redrive", 1, "--mapping", str(mapping), "--user", "ada")
    shard.drain()

    assert "1 sent, 0 still bad, 0 unreadable" in printed
    assert states(shard) == [("missing_field", "redriven", True)]
    assert stored(shard, "source, action, user_id, metadata::text") == [
        ("doors", "door.open", "ada", '{"floor":1.1}')
    ]
    ((action, actor, metadata),) = acts(shard)
    assert (action, actor) == ("audit.dead_letter.redrive", "ada")
    assert (metadata["ids"], metadata["count"]) == ([1], 1)
    assert metadata["mapping"].startswith("doors/1:")


def test_a_value_that_was_wrong_is_set_and_the_others_keep_their_bytes(shard: Shard) -> None:
    line = wire(event(severity=9, metadata=None)).replace(b'"severity":9', b'"severity":9,"x":1.10')
    _dead(shard, line)

    done("redrive", "--reason", "invalid_value", "--set", "severity=3")
    shard.drain()

    assert stored(shard, "severity, metadata::text") == [(3, '{"x":1.10}')]
    assert acts(shard)[0][2] == {
        "ids": [1],
        "count": 1,
        "reason": "invalid_value",
        "set": ["severity"],
    }


def test_what_is_good_by_now_goes_back_with_its_very_bytes(shard: Shard) -> None:
    ahead = event(timestamp=datetime.now(UTC) + timedelta(minutes=30))
    _dead(shard, wire(ahead))

    refused = deadletter("redrive", "--all")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIT_FUTURE_TOLERANCE_S", "3600")
        done("redrive", "--all")
    entries = cast("list[Any]", shard.redis.xrange(shard.key))
    shard.drain(future_tolerance_s=3_600)

    assert refused.exit_code == 1
    assert "still bad: timestamp" in refused.stderr
    assert entries[0][1] == {b"event": wire(ahead)}
    assert stored(shard, "id::text, producer_id") == [(ahead["id"], None)]


def test_redriving_twice_stores_one_row(shard: Shard) -> None:
    """As after a kill between sending and marking: the letter is open, its event is stored."""
    _dead(shard, b'{"source":"door","action":"open","severity":9}')

    for _ in range(2):
        done("redrive", "--all", "--set", "severity=1")
        shard.drain()
        shard.sql.execute(
            b"update audit.dead_letter set resolved_at = null, resolution = 'redriving'"
        )

    assert len(stored(shard, "id")) == 1
    assert shard.ledger()["n_dup"] == 1


def test_an_event_without_time_keeps_that_of_its_first_arrival(shard: Shard) -> None:
    entry = shard.add_event(b'{"source":"door","action":"open","severity":9}')
    shard.drain()

    done("redrive", "--all", "--set", "severity=1")
    shard.drain()

    ((moment,),) = stored(shard, "timestamp")
    assert int(moment.timestamp() * 1_000) == int(entry.partition("-")[0])


def test_what_is_bad_again_is_a_new_open_letter(shard: Shard) -> None:
    good = event()
    twin = good | {"action": "user.other"}
    _dead(shard, wire(good))
    _dead(shard, wire(twin))

    done("redrive", "--reason", "id_collision")
    shard.drain()

    assert states(shard) == [("id_collision", "redriven", True), ("id_collision", None, False)]
    assert {one.raw for one in shard.letters()} == {wire(twin)}


def test_bad_again_before_it_is_marked_stays_visible(shard: Shard) -> None:
    """The drain may be faster than the command: the mark must not hide the new letter."""
    good = event()
    twin = wire(good | {"action": "user.other"})
    _dead(shard, wire(good))
    _dead(shard, twin)
    shard.sql.execute(
        b"create function slow() returns trigger language plpgsql as "
        b"'begin perform pg_sleep(1.5); return new; end'"
    )
    shard.sql.execute(
        b"create trigger slow before update on audit.dead_letter for each row"
        b" when (new.resolution = 'redriven') execute function slow()"
    )
    beside = shard.drain_beside(drain_idle_s=3.0)

    done("redrive", "--all")
    beside.result(60)

    assert states(shard) == [("id_collision", "redriven", True), ("id_collision", None, False)]


def test_a_redelivered_entry_makes_no_second_letter_while_it_is_open(shard: Shard) -> None:
    _dead(shard, b"{", b"{")
    _dead(shard, b"{")

    assert states(shard) == [("invalid_json", None, False)]


def test_what_would_be_refused_again_stays_open(shard: Shard) -> None:
    _dead(shard, b"{", wire(event(severity=9)))

    result = deadletter("redrive", "--all", "--set", "severity=2")
    shard.drain()

    assert result.exit_code == 3
    assert "1 sent, 1 still bad, 0 unreadable" in result.stdout
    assert "1 (invalid_json): still bad: record: is no JSON object" in result.stderr
    assert states(shard) == [("invalid_json", None, False), ("invalid_value", "redriven", True)]


def test_a_dry_run_sends_and_marks_nothing(shard: Shard) -> None:
    _dead(shard, b"{", wire(event(severity=9)))

    result = deadletter("redrive", "--all", "--set", "severity=2", "--dry-run")

    assert result.exit_code == 3
    assert "2 (invalid_value): would be sent" in result.stdout
    assert shard.redis.xlen(shard.key) == 0
    assert [state[1] for state in states(shard)] == [None, None]


def test_an_entry_is_added_as_it_was(shard: Shard) -> None:
    one = event()
    shard.add_batch([wire(one)], v=7, p=5, e=6, s=1)
    shard.drain()

    refused = deadletter("redrive", "--all")
    done("redrive", "--all", "--set", "v=1")
    shard.drain()

    assert refused.exit_code == 1
    assert states(shard) == [("unknown_version", "redriven", True)]
    assert stored(shard, "id::text, producer_seq") == [(one["id"], 1)]


def test_an_entry_of_foreign_fields_becomes_an_event_with_a_mapping(shard: Shard) -> None:
    moment = datetime.now(UTC).isoformat()
    shard.add({"action": "door.open", "source": "doors", "time": moment, "floor": "3"})
    shard.drain()

    done("redrive", "--all", "--mapping", "generic")
    shard.drain()

    assert states(shard) == [("unknown_entry", "redriven", True)]
    assert stored(shard, "source, action, metadata::text") == [
        ("doors", "door.open", '{"floor":"3"}')
    ]


def test_an_entry_whose_lines_were_taken_is_not_sent_again(shard: Shard) -> None:
    shard.add_batch([b'{"source":"door","action":"open"}'], n=2)
    shard.drain()

    result = deadletter("redrive", "--all", "--set", "n=1")

    assert result.exit_code == 1
    assert "the lines themselves were taken" in result.stderr
    assert len(stored(shard, "id")) == 1


def test_many_letters_are_sent_in_chunks_and_each_act_is_in_the_log(shard: Shard) -> None:
    shard.add_batch([wire(event(severity=9)) for _ in range(230)])
    shard.drain()

    printed = done("redrive", "--reason", "invalid_value", "--set", "severity=0")
    shard.drain()

    assert "230 sent" in printed
    assert len(stored(shard, "id")) == 230
    found = [metadata for _, _, metadata in acts(shard)]
    assert [one["count"] for one in found] == [100, 100, 30]
    assert sorted(number for one in found for number in one["ids"]) == list(range(1, 231))
