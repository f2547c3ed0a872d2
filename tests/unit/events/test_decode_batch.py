"""An entry on which the decoder itself fails is set apart; its neighbours are decoded."""

from collections.abc import Sequence
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from audit_platform.events.decode_batch import decode_batch
from audit_platform.events.frame import FrameResult, to_frame
from audit_platform.events.lines import unpack_fields
from audit_platform.events.normalise import FrameLimits
from audit_platform.events.stream_entry import StreamEntry
from tests.factories import event, wire

LIMITS = FrameLimits(
    max_event_bytes=65_536, max_json_depth=32, max_json_keys=256, future_tolerance_s=300
)
FATAL = b"fatal"


def _decode(entries: Sequence[StreamEntry]) -> FrameResult:
    """Stand for a decoder with a fault: it fails on entries with the field `fatal`."""
    if any(FATAL in entry.fields for entry in entries):
        raise RuntimeError("a fault of the decoder; secret payload")
    return to_frame(entries, stream="audit:{0}:events", now=datetime.now(UTC), limits=LIMITS)


def _entry(number: int, *, is_fatal: bool) -> StreamEntry:
    fields = {b"event": wire(event())}
    return StreamEntry(
        entry_id=f"{1_000 + number}-0", fields=fields | {FATAL: b"1"} if is_fatal else fields
    )


@given(flags=st.lists(st.booleans(), min_size=1, max_size=40))
def test_every_entry_is_a_row_or_a_reject_with_all_its_fields(flags: list[bool]) -> None:
    entries = [_entry(number, is_fatal=flag) for number, flag in enumerate(flags)]

    frames = decode_batch(entries, _decode)

    rejects = {reject.entry_id: reject for frame in frames for reject in frame.rejects}
    fatal = {entry.entry_id: entry for entry, flag in zip(entries, flags, strict=True) if flag}
    assert rejects.keys() == fatal.keys()
    assert all(unpack_fields(rejects[key].raw) == entry.fields for key, entry in fatal.items())
    assert sum(frame.rows.height for frame in frames) == flags.count(False)
    assert sum(frame.n_read for frame in frames) == len(entries)


def test_a_sound_batch_stays_in_one_frame() -> None:
    entries = [_entry(number, is_fatal=False) for number in range(5)]

    frames = decode_batch(entries, _decode)

    assert [frame.rows.height for frame in frames] == [5]


def test_the_reason_names_the_kind_of_error_and_no_payload() -> None:
    frames = decode_batch([_entry(0, is_fatal=True)], _decode)

    reject = frames[0].rejects[0]
    assert reject.reason == "decoder_failed"
    assert "RuntimeError" in reject.detail
    assert "secret" not in reject.detail
