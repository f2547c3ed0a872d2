"""Dead letters are listed, shown without harm, and discarded with a reason."""

import json

import pytest

from audit_platform.errors import InvalidQuery
from tests.factories import event, wire
from tests.integration.dead_letters.command import acts, deadletter, done, states, stored
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.integration

HOSTILE = b'{"\x1b]0;owned\x07\xe2\x80\xae\x9b31m":\n "\x1b[2J\r\x7f\xff"'


@pytest.fixture
def three(shard: Shard) -> Shard:
    """Letters 1 and 2 with bad JSON, letter 3 with a bad severity."""
    for line in (b"{", HOSTILE, wire(event(severity=9))):
        shard.add_event(line)
    shard.drain()
    return shard


def _listed(*arguments: str | int) -> list[int]:
    lines = done("list", "-o", "json", *arguments).splitlines()
    return [json.loads(line)["dead_id"] for line in lines]


@pytest.mark.usefixtures("three")
def test_letters_are_listed_newest_first_in_pages() -> None:
    first = deadletter("list", "-o", "json", "--limit", 2)

    assert _listed() == [3, 2, 1]
    assert "more with --before 2" in first.stderr
    assert _listed("--limit", 2, "--before", 2) == [1]
    assert _listed("--reason", "invalid_value") == [3]
    assert _listed("--since", "1h") == [3, 2, 1]
    assert _listed("--until", "1h") == []


@pytest.mark.usefixtures("three")
def test_a_listed_letter_has_its_place_and_no_content() -> None:
    table = done("list")
    row = json.loads(done("list", "-o", "json", "--reason", "invalid_value"))

    assert row["state"] == "open"
    assert row["line_no"] == 1
    assert "severity" in row["detail"]
    assert "user.suspend" not in table
    assert "\x1b" not in table


@pytest.mark.usefixtures("three")
def test_letters_are_counted_by_reason() -> None:
    rows = [json.loads(line) for line in done("list", "--by-reason", "-o", "json").splitlines()]

    assert {row["reason"]: row["open"] for row in rows} == {"invalid_utf8": 1, "invalid_json": 1,
                                                             "invalid_value": 1}  # fmt: skip
    assert "invalid_value" in done("list", "--by-reason")


@pytest.mark.parametrize("output", ["table", "json"])
def test_hostile_bytes_do_not_steer_the_terminal(three: Shard, output: str) -> None:
    del three
    shown = done("show", 2, "-o", output)

    assert not set(shown) & {"\x1b", "\x07", "\r", "\x7f", "\x9b", "\u202e", "\xff"}
    assert all(character == "\n" or character.isprintable() for character in shown)


@pytest.mark.usefixtures("three")
def test_a_letter_is_shown_with_its_content_and_reason() -> None:
    shown = done("show", 3)

    assert '"severity":9' in shown
    assert "invalid_value" in shown


def test_an_entry_is_shown_field_by_field(shard: Shard) -> None:
    shard.add({"what": "\x1b[31mred", "who": "ada"})
    shard.drain()

    shown = done("show", 1)

    assert "what:\n  \\x1b[31mred\n" in shown
    assert "who:\n  ada\n" in shown


@pytest.mark.usefixtures("three")
def test_raw_bytes_come_out_exactly() -> None:
    assert deadletter("show", 2, "--raw").stdout_bytes == HOSTILE


def test_looking_into_a_letter_is_in_the_log(three: Shard) -> None:
    done("show", 1, "--user", "ada")
    three.drain()

    assert acts(three) == [("audit.dead_letter.show", "ada", {"ids": [1], "count": 1})]


def test_nothing_is_shown_when_the_log_cannot_take_note(
    three: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    del three
    monkeypatch.setenv("AUDIT_REDIS_URL", "redis://127.0.0.1:1/0")

    shown = deadletter("show", 3)

    assert shown.exit_code == 1
    assert "severity" not in shown.output


@pytest.mark.usefixtures("shard")
def test_a_number_that_is_none_is_named() -> None:
    assert isinstance(deadletter("show", 99).exception, InvalidQuery)
    assert deadletter("redrive", 99).exit_code == 1
    assert deadletter("discard", 99, "--reason", "gone", "--yes").exit_code == 1


def test_discarded_letters_stay_in_the_table_with_the_reason(three: Shard) -> None:
    printed = done("discard", 1, 2, "--reason", "test traffic", "--yes", "--user", "ada")
    three.drain()

    assert "2 discarded" in printed
    assert states(three) == [
        ("invalid_json", "discarded: test traffic", True),
        ("invalid_utf8", "discarded: test traffic", True),
        ("invalid_value", None, False),
    ]
    assert _listed() == [3]
    assert _listed("--state", "resolved") == [2, 1]
    assert acts(three) == [
        (
            "audit.dead_letter.discard",
            "ada",
            {"ids": [1, 2], "count": 2, "reason": "test traffic"},
        )
    ]


def test_discarding_asks_first(three: Shard) -> None:
    no = deadletter("discard", "--all", "--reason", "old", answer="n\n")
    silent = deadletter("discard", "--all", "--reason", "old")
    yes = deadletter("discard", "--code", "invalid_value", "--reason", "old", answer="y\n")

    assert (no.exit_code, silent.exit_code, yes.exit_code) == (1, 1, 0)
    assert "all open dead letters of every reason" in no.stderr
    assert [resolved for _, _, resolved in states(three)] == [False, False, True]


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "a\x1b[31m"])
def test_discarding_needs_a_reason(three: Shard, reason: str) -> None:
    result = deadletter("discard", 1, "--yes", "--reason", reason)

    assert isinstance(result.exception, InvalidQuery)
    assert not any(resolved for _, _, resolved in states(three))


def test_the_same_bytes_after_a_discard_are_a_new_letter(three: Shard) -> None:
    """A decision about yesterday's bytes must not hide those of a producer that is still broken."""
    done("discard", 1, "--reason", "test traffic", "--yes")

    three.add_event(b"{")
    three.drain()

    assert states(three)[-1] == ("invalid_json", None, False)


def test_a_discard_can_be_taken_back(three: Shard) -> None:
    done("discard", 3, "--reason", "mistake", "--yes")

    without = deadletter("redrive", 3, "--set", "severity=1")
    done("redrive", 3, "--set", "severity=1", "--again")
    three.drain()

    assert without.exit_code == 1
    assert states(three)[2] == ("invalid_value", "redriven", True)
    assert len(stored(three, "id")) == 1
