"""Reports cover their window, the summary covers the run."""

from audit_platform.events.ledger import BatchCounts, StorePath
from audit_platform.events.tally import EndReason, Tally


def _counts(*, n_new: int, lags_s: tuple[float, ...] = ()) -> BatchCounts:
    return BatchCounts(
        n_read=n_new + 6,
        n_new=n_new,
        n_dup=1,
        n_late=2,
        n_bad=3,
        dead_by_reason={"invalid_json": 3},
        path=StorePath.COPY,
        lags_s=lags_s,
    )


def test_a_report_counts_since_the_one_before() -> None:
    tally = Tally(now_s=100.0)
    tally.add(_counts(n_new=10, lags_s=(9.0,)), redis_lost=1)
    tally.report(now_s=110.0, backlog=0)
    tally.add(_counts(n_new=50, lags_s=tuple(range(100))), redis_lost=0)
    tally.add_bytes(5_000)

    report = tally.report(now_s=120.0, backlog=7)

    assert (report.rows, report.batches, report.rows_per_s) == (50, 1, 5.0)
    assert (report.duplicates, report.late, report.dead_letters) == (1, 2, 3)
    assert (report.lag_p50_s, report.lag_p99_s) == (50, 99)
    assert (report.bytes_, report.redis_lost, report.backlog) == (5_000, 0, 7)
    assert report.dead_by_reason == {"invalid_json": 3}


def test_the_summary_counts_the_whole_run() -> None:
    tally = Tally(now_s=0.0)
    for _ in range(3):
        tally.add(_counts(n_new=10), redis_lost=1)
        tally.report(now_s=1.0, backlog=0)

    summary = tally.summary(now_s=30.0, ended_because=EndReason.IDLE)

    assert (summary.rows, summary.batches, summary.redis_lost) == (30, 3, 3)
    assert summary.dead_by_reason == {"invalid_json": 9}
    assert (summary.ended_because, summary.seconds) == (EndReason.IDLE, 30.0)


def test_a_quiet_window_reports_zeros() -> None:
    report = Tally(now_s=0.0).report(now_s=10.0, backlog=0)

    assert (report.rows, report.lag_p50_s, report.lag_p99_s) == (0, 0.0, 0.0)
