"""One living process per slot; what dead ones left is found, trusted or not, and forgotten once."""

import os
import shutil
import signal
import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from audit_platform.client.sequence_state import LaneEnd, boot_id
from audit_platform.client.slot import MAX_SLOTS, Slot, directory_name
from audit_platform.client.spool_format import SpoolStream
from audit_platform.errors import SpoolFailed
from tests.unit.client.forked import forked
from tests.unit.client.spool_files import open_spool, records

NAME = "billing"


def states(slot: Slot) -> list[Path]:
    return sorted(slot.directory.glob("*.state"))


def test_first_process_gets_slot_zero_and_the_next_one_the_next(tmp_path: Path) -> None:
    first = Slot.claim(tmp_path, NAME)

    def run(say: Callable[[object], None]) -> None:
        say(Slot.claim(tmp_path, NAME).number)

    with forked(run) as child:
        assert child.lines() == ["1"]
    assert (first.number, Slot.claim(tmp_path, NAME).number) == (0, 1)


def test_slot_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    def run(say: Callable[[object], None]) -> None:
        say(Slot.claim(tmp_path, NAME).number)
        signal.pause()

    with forked(run) as child:
        assert os.read(child.output, 10) == b"0\n"
        taken = Slot.claim(tmp_path, NAME)
        child.kill()
        child.wait()

    assert (taken.number, Slot.claim(tmp_path, NAME).number) == (1, 0)


def test_released_slot_is_claimed_again(tmp_path: Path) -> None:
    slot = Slot.claim(tmp_path, NAME)
    slot.release()
    slot.release()

    assert Slot.claim(tmp_path, NAME).number == 0


def test_forked_child_lets_go_and_the_parent_keeps_its_lock(tmp_path: Path) -> None:
    slot = Slot.claim(tmp_path, NAME)
    state = slot.begin([11])
    state.record(0, 5)

    def run(say: Callable[[object], None]) -> None:
        slot.abandon_after_fork()
        state.record(0, 99)
        say(Slot.claim(tmp_path, NAME).number)
        signal.pause()

    with forked(run) as child:
        assert os.read(child.output, 10) == b"1\n"
        assert Slot.claim(tmp_path, NAME).number == 2
        assert state.ends() == [LaneEnd(11, 5)]
        # The child alone is left: it must not hold the lock of its parent.
        slot.release()
        assert Slot.claim(tmp_path, NAME).number == 0


@pytest.mark.parametrize("name", ["a/b", "..", "", "ü", "x" * 500, "a\0b", "\udcff"])
def test_every_name_makes_one_directory_of_its_own(tmp_path: Path, name: str) -> None:
    slot = Slot.claim(tmp_path, name)

    assert slot.directory.parent.parent == tmp_path
    assert slot.directory == tmp_path / directory_name(name) / "0"
    assert directory_name(name) != directory_name(f"{name}2")
    assert stat.S_IMODE(slot.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((slot.directory / "lock").stat().st_mode) == 0o600


def test_names_that_look_alike_do_not_share_slots(tmp_path: Path) -> None:
    assert directory_name("a/b") != directory_name("a_b")
    assert {Slot.claim(tmp_path, name).number for name in ("a/b", "a_b", "a b")} == {0}


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(SpoolFailed, match="claim a slot"):
        Slot.claim(tmp_path / "file", NAME)


def test_more_slots_than_processes_can_be_meant_are_refused(tmp_path: Path) -> None:
    slots = [Slot.claim(tmp_path, NAME) for _ in range(5)]
    producer = slots[0].directory.parent
    for number in range(5, MAX_SLOTS):
        (producer / str(number)).symlink_to(producer / "0")

    with pytest.raises(SpoolFailed, match="AUDIT_PRODUCER_NAME"):
        Slot.claim(tmp_path, NAME)


def test_numbers_of_a_killed_process_are_read_by_the_next(tmp_path: Path) -> None:
    def run(say: Callable[[object], None]) -> None:
        state = Slot.claim(tmp_path, NAME).begin([11, 12, (1 << 63) - 1])
        state.record(0, 1)
        state.record(2, 1 << 40)
        state.record(0, 7)
        say("recorded")
        signal.pause()

    with forked(run) as child:
        assert os.read(child.output, 20) == b"recorded\n"
        child.kill()
        child.wait()
    slot = Slot.claim(tmp_path, NAME)

    (ended,) = slot.ended()

    assert ended.ends == [LaneEnd(11, 7), LaneEnd(12, 0), LaneEnd((1 << 63) - 1, 1 << 40)]
    assert not ended.unclean
    slot.forget(ended)
    slot.forget(ended)
    assert (slot.ended(), states(slot)) == ([], [])


def test_own_numbers_are_not_those_of_a_dead_process(tmp_path: Path) -> None:
    slot = Slot.claim(tmp_path, NAME)
    state = slot.begin([11])
    state.record(0, 3)

    assert slot.ended() == []
    assert state.ends() == [LaneEnd(11, 3)]


def test_closed_state_keeps_its_numbers_and_takes_no_more(tmp_path: Path) -> None:
    slot = Slot.claim(tmp_path, NAME)
    state = slot.begin([11])
    state.record(0, 3)
    state.close()
    state.record(0, 4)
    slot.release()

    assert state.ends() == [LaneEnd(11, 4)]
    assert [one.ends for one in Slot.claim(tmp_path, NAME).ended()] == [[LaneEnd(11, 3)]]


def test_several_starts_are_read_in_their_order(tmp_path: Path) -> None:
    for epoch in range(1, 6):
        slot = Slot.claim(tmp_path, NAME)
        slot.begin([epoch])
        slot.release()

    ended = Slot.claim(tmp_path, NAME).ended()

    assert [one.ends[0].epoch for one in ended] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("boot", [b"f" * 36, bytes(36)], ids=["another", "unknown"])
def test_numbers_from_before_a_restart_of_the_machine_are_unclean(
    tmp_path: Path, boot: bytes
) -> None:
    slot = Slot.claim(tmp_path, NAME)
    slot.begin([11])
    slot.release()
    (file,) = states(slot)
    _rewrite(file, boot)

    (ended,) = Slot.claim(tmp_path, NAME).ended()

    assert ended.unclean
    assert ended.ends == [LaneEnd(11, 0)]


def _rewrite(file: Path, boot: bytes) -> None:
    """Give a state file another boot id, with its checksum."""
    data = bytearray(file.read_bytes())
    data[8:44] = boot
    started_ms, lanes = struct.unpack_from("=QQ", data, 48)
    epochs = struct.unpack_from(f"={2 * lanes}Q", data, 64)[::2]
    data[44:48] = struct.pack(
        "=I", zlib.crc32(struct.pack(f"=36sQ{lanes}Q", boot, started_ms, *epochs))
    )
    file.write_bytes(data)


def test_state_file_has_the_bytes_that_its_module_names(tmp_path: Path) -> None:
    slot = Slot.claim(tmp_path, NAME)
    slot.begin([11, 12]).record(1, 5)

    (file,) = states(slot)
    data = file.read_bytes()

    assert data[:44] == b"AUDSTA01" + boot_id()
    assert str(struct.unpack_from("=Q", data, 48)[0]) == file.stem
    assert struct.unpack_from("=5Q", data, 56) == (2, 11, 0, 12, 5)
    assert len(data) == 96


def test_damaged_state_files_are_set_aside_and_counted(tmp_path: Path) -> None:
    slot = Slot.claim(tmp_path, NAME)
    slot.begin([11, 12])
    slot.release()
    (file,) = states(slot)
    content = file.read_bytes()
    file.unlink()
    wrong = [content[:length] for length in range(len(content))]
    for position in (*range(56 + 16), *range(80, 88)):
        changed = bytearray(content)
        changed[position] ^= 0x10
        wrong.append(bytes(changed))
    wrong.append(content + bytes(8))
    for number, data in enumerate(wrong):
        (slot.directory / f"{number}.state").write_bytes(data)
    next_slot = Slot.claim(tmp_path, NAME)

    assert next_slot.ended() == []
    assert next_slot.bad_states == len(wrong)
    assert len(list(slot.directory.glob("*.bad"))) == len(wrong)
    assert next_slot.ended() == []


def test_leftovers_are_the_free_slots_that_hold_something(tmp_path: Path) -> None:
    slots = [Slot.claim(tmp_path, NAME) for _ in range(5)]
    spool = open_spool(slots[1].directory)
    spool.append(5, records(1, 3), stream=SpoolStream.DURABLE)
    spool.close()
    for number in (2, 3):
        slots[number].begin([number])
    (slots[0].directory.parent / "notes").mkdir()
    for number in (1, 2, 4):
        slots[number].release()

    found = slots[0].leftovers()

    assert [slot.number for slot in found] == [1, 2]
    assert open_spool(found[0].directory).epochs() == [5]
    assert [one.ends for one in found[1].ended()] == [[LaneEnd(2, 0)]]
    assert slots[0].leftovers() == []
    assert Slot.claim(tmp_path, NAME).number == 4
    for slot in found:
        slot.release()
    assert Slot.claim(tmp_path, NAME).number == 1


def test_leftovers_of_other_producers_are_left_alone(tmp_path: Path) -> None:
    other = Slot.claim(tmp_path, "other")
    other.begin([1])
    other.release()

    assert Slot.claim(tmp_path, NAME).leftovers() == []


def test_state_that_cannot_be_written_is_an_error_without_a_file(tmp_path: Path) -> None:
    slot = Slot.claim(tmp_path, NAME)
    shutil.rmtree(slot.directory)

    with pytest.raises(SpoolFailed, match="keep its numbers"):
        slot.begin([1])
    shutil.rmtree(slot.directory.parent)
    with pytest.raises(SpoolFailed, match="list its slots"):
        slot.leftovers()
