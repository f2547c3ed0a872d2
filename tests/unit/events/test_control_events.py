"""Reports of producers about themselves: what counts, what is refused (B32), what is no report."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.client import control_events as written
from audit_platform.events.control_events import (
    END,
    LOSS,
    MAX_PARTS,
    MAX_SEQ,
    SAMPLED,
    LedgerRange,
    RangeKind,
    Report,
    SampledCount,
    read_report,
)
from audit_platform.events.reject import RejectReason, Unstorable
from tests.unit.events.entries import batch, frame_of, single, wire

PRODUCER, EPOCH = 7, 99
LOSS_SAID = {
    "producer_id": PRODUCER,
    "epoch": EPOCH,
    "reason": "shed",
    "ranges": [[1, 3], [5, 5]],
}
END_SAID = {"producer_id": PRODUCER, "ended": [[EPOCH, 12], [98, 0]], "unclean": True}
SAMPLED_SAID = {
    "producer_id": PRODUCER,
    "epoch": EPOCH,
    "counts": [["web", "page.view", "sampled", 90], ["web", "ping", "dropped", 7]],
}


def _read(action: str, said: Any, *, stamp: int | None = PRODUCER) -> Report | None:
    return read_report(action, json.dumps(said), producer_id=stamp, line_index=4)


def _refusal(action: str, said: Any, *, stamp: int | None = PRODUCER) -> Unstorable:
    with pytest.raises(Unstorable) as caught:
        _read(action, said, stamp=stamp)
    assert caught.value.reason is RejectReason.INVALID_REPORT
    return caught.value


def test_a_loss_declares_its_ranges_with_the_reason() -> None:
    report = _read(LOSS, LOSS_SAID)

    assert report is not None
    assert (report.line_index, report.producer_id) == (4, PRODUCER)
    assert report.ranges == (
        LedgerRange(PRODUCER, EPOCH, RangeKind.DECLARED, "shed", 1, 3),
        LedgerRange(PRODUCER, EPOCH, RangeKind.DECLARED, "shed", 5, 5),
    )


def test_an_end_names_the_last_number_of_each_epoch() -> None:
    report = _read(END, END_SAID)

    assert report is not None
    assert report.ranges == (
        LedgerRange(PRODUCER, EPOCH, RangeKind.END, "unclean", 12, 12),
        LedgerRange(PRODUCER, 98, RangeKind.END, "unclean", 0, 0),
    )


def test_counts_of_what_policies_left_out_are_kept_by_kind() -> None:
    report = _read(SAMPLED, SAMPLED_SAID)

    assert report is not None
    assert report.ranges == ()
    assert report.sampled == (
        SampledCount(PRODUCER, EPOCH, "web", "page.view", "sampled", 90),
        SampledCount(PRODUCER, EPOCH, "web", "ping", "dropped", 7),
    )


def test_a_name_is_taken_when_it_is_one() -> None:
    named, nameless = _read(END, END_SAID | {"name": "billing/0"}), _read(END, END_SAID)

    assert named is not None
    assert nameless is not None
    assert (named.name, nameless.name) == ("billing/0", None)
    for strange in ("", 5, "x" * 201):
        report = _read(END, END_SAID | {"name": strange})
        assert report is not None
        assert report.name is None


def test_what_the_sdk_writes_is_read() -> None:
    events = written.ControlEvents(
        name="billing",
        tenant_id="acme",
        tail74=lambda: 5,
        now_us=lambda: 1_700_000_000_000_000,
    )
    lines = [
        *events.losses(PRODUCER, EPOCH, "shed", [(1, 3)]),
        events.end(PRODUCER, [(EPOCH, 12)], is_unclean=False),
        *events.not_logged(PRODUCER, EPOCH, [("web", "ping", "dropped", 7)]),
    ]

    for line in lines:
        event = json.loads(line)
        report = _read(event["action"], event["metadata"])
        assert report is not None
        assert report.ranges or report.sampled


@pytest.mark.parametrize(
    ("action", "said"), [(LOSS, LOSS_SAID), (END, END_SAID), (SAMPLED, SAMPLED_SAID)]
)
def test_b32_a_report_on_another_producer_is_refused(action: str, said: dict[str, Any]) -> None:
    assert "producer that sent" in _refusal(action, said, stamp=PRODUCER + 1).detail
    assert "stamp" in _refusal(action, said, stamp=None).detail


@pytest.mark.parametrize("number", [None, True, "7", 7.0, -1, 2**31])
def test_a_report_without_a_number_of_its_producer_is_refused(number: Any) -> None:
    _refusal(LOSS, LOSS_SAID | {"producer_id": number})


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": -1},
        {"epoch": 2**63},
        {"epoch": "1"},
        {"reason": ""},
        {"reason": "x" * 101},
        {"reason": None},
        {"ranges": None},
        {"ranges": {}},
        {"ranges": [[1]]},
        {"ranges": [[1, 2, 3]]},
        {"ranges": [5]},
        {"ranges": [[0, 3]]},
        {"ranges": [[4, 3]]},
        {"ranges": [[1, True]]},
        {"ranges": [[1, 2.5]]},
        {"ranges": [[1, MAX_SEQ + 1]]},
        {"ranges": [[1, 1]] * (MAX_PARTS + 1)},
    ],
)
def test_a_malformed_loss_is_refused(change: dict[str, Any]) -> None:
    _refusal(LOSS, LOSS_SAID | change)


@pytest.mark.parametrize(
    "change",
    [
        {"ended": None},
        {"ended": [[EPOCH]]},
        {"ended": [[EPOCH, -1]]},
        {"ended": [[-1, 5]]},
        {"ended": [[EPOCH, MAX_SEQ + 1]]},
        {"ended": [[EPOCH, 1]] * (MAX_PARTS + 1)},
        {"unclean": 1},
        {"unclean": None},
    ],
)
def test_a_malformed_end_is_refused(change: dict[str, Any]) -> None:
    _refusal(END, END_SAID | change)


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": None},
        {"counts": "x"},
        {"counts": [["web", "ping", "dropped"]]},
        {"counts": [["web", "ping", "lost", 1]]},
        {"counts": [["web", "ping", "dropped", -1]]},
        {"counts": [["", "ping", "dropped", 1]]},
        {"counts": [["web", 5, "dropped", 1]]},
        {"counts": [["web", "ping", ["dropped"], 1]]},
    ],
)
def test_malformed_counts_are_refused(change: dict[str, Any]) -> None:
    _refusal(SAMPLED, SAMPLED_SAID | change)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(
    st.sampled_from([(LOSS, LOSS_SAID), (END, END_SAID), (SAMPLED, SAMPLED_SAID)]),
    st.dictionaries(
        st.sampled_from(["producer_id", "epoch", "reason", "ranges", "ended", "unclean", "counts"]),
        _JSON | st.lists(st.lists(_JSON, max_size=4), max_size=3),
        max_size=2,
    ),
)
def test_whatever_a_report_holds_it_is_read_or_refused(
    valid: tuple[str, dict[str, Any]], change: dict[str, Any]
) -> None:
    action, said = valid
    try:
        report = _read(action, said | change)
    except Unstorable:
        return
    assert report is not None
    assert all(one.producer_id == PRODUCER for one in (*report.ranges, *report.sampled))
    assert all(0 <= one.first_seq <= one.last_seq <= MAX_SEQ for one in report.ranges)


@pytest.mark.parametrize("metadata", ["[]", "5", '{"producer_id":1%s}' % ("0" * 5_000)])
def test_metadata_that_is_no_object_of_usual_numbers_is_refused(metadata: str) -> None:
    with pytest.raises(Unstorable):
        read_report(LOSS, metadata, producer_id=PRODUCER, line_index=0)


def test_an_event_of_another_name_is_no_report() -> None:
    assert _read("audit.producer.started", {}) is None


def _report_line(said: dict[str, Any], **override: Any) -> bytes:
    return wire(source="audit", action=LOSS, metadata=said, **override)


def test_a_report_stays_a_row_and_is_found_among_others() -> None:
    lines = [wire(), _report_line(LOSS_SAID), wire()]

    result = frame_of(batch(lines, p=b"7", e=b"1", s=b"1"))

    (report,) = result.reports
    assert result.rows.height == 3
    assert result.lines.raw[report.line_index] == lines[1]
    assert result.unstamped == 0


def test_a_report_that_does_not_hold_is_rejected_with_its_bytes() -> None:
    line = _report_line(LOSS_SAID)

    result = frame_of(batch([wire(), line], p=b"8", e=b"1", s=b"1"), single(line, number=1))

    assert result.reports == ()
    assert [(one.reason, one.raw, one.line_no) for one in result.rejects] == [
        (RejectReason.INVALID_REPORT, line, 2),
        (RejectReason.INVALID_REPORT, line, 1),
    ]
    assert result.rows.height == 1


def test_escaped_letters_do_not_hide_a_report() -> None:
    line = _report_line(LOSS_SAID).replace(b"audit.producer", b"\\u0061udit.producer")

    assert len(frame_of(batch([line], p=b"7", e=b"1", s=b"1")).reports) == 1


def test_an_application_may_use_the_action_under_its_own_source() -> None:
    line = wire(source="shop", action=LOSS, metadata={"producer_id": "none"})

    result = frame_of(batch([line], p=b"7", e=b"1", s=b"1"))

    assert result.rows.height == 1
    assert result.reports == ()


def test_lines_without_a_stamp_are_counted() -> None:
    result = frame_of(batch([wire(), wire()]), single(wire(), number=1))

    assert result.unstamped == 3
