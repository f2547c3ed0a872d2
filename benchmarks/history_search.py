"""How long do the searches of everyday take when a month of events is stored, hot and archived?

Thirty partitions with a million rows each, filled as `growth.py` does, each entity living for up to
three days. As the reader of one tenant, pages of 50: the last events of a tenant, the history of an
entity, what a user did, the failures of a day; each search with other arguments. Then all thirty
days are archived and detached, and the histories of the same entities are looked for again: the
pages must be equal, and only files whose filters match may be opened.
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from statistics import mean
from typing import Any, Final

from audit_platform.retention.partition import bounds_between
from audit_platform.search.cold import Archive
from audit_platform.search.everywhere import Everywhere
from audit_platform.search.hot import Page, Searcher
from audit_platform.search.query import EventQuery
from benchmarks.archived_days import archive_days
from benchmarks.backlog import SEED, make_events, put_batches
from benchmarks.drain_rate import drain_rate
from benchmarks.figures import Figure, options_of, percentile, report
from benchmarks.growth import DAYS, TEMPLATE_ROWS, VALUES, fill
from benchmarks.made_day import OWN_VALUES
from benchmarks.ratios import COLD_ENTITY, HOT_SEARCHES, ratios_among
from benchmarks.stack import Stack, running_stack

NAME = "history_search"
ROWS: Final = 30_000_000
SEARCHES: Final = 200
PAGE: Final = 50
_DAY: Final = timedelta(days=1)
_FAR_AHEAD: Final = timedelta(days=40)
"""When every one of the thirty days is due to be sealed, archived and detached."""
_VALUES: Final = VALUES | {"entity_id": OWN_VALUES["entity_id"]}
_SAMPLE: Final = """
select distinct on (tenant_id, {columns}) tenant_id, {columns}
from audit.event tablesample system ({percent}) repeatable ({seed})
where ({columns}) is not null
limit {count} * 50
"""


def measure(*, rows: int, searches: int) -> list[Figure]:
    """Run the benchmark.

    Args:
        rows: Of all days together.
        searches: Of each kind.
    """
    rng = random.Random(SEED)
    with running_stack(drain_idle_s=1, search_timeout_s=60) as stack:
        drain_rate(stack, put_batches, make_events(TEMPLATE_ROWS, seed=SEED))
        fill(stack, rows, values=_VALUES)
        now = datetime.now(UTC)
        days = bounds_between(now - timedelta(days=DAYS - 1), now, "day")
        url = (stack.settings.data_dir / "archive").as_uri()
        kinds = _queries(_Sample(stack, rows, searches), rng, now)
        figures: list[Figure] = []
        pages: dict[str, list[Page]] = {}
        for kind, queries in kinds.items():
            pages[kind], times_ms = _search_all(stack, url, queries, now)
            figures += _times(f"search: {kind}", times_ms, "target p95 < 100 ms")
        began_s = time.monotonic()
        archive_days(stack, [day.name for day in days], url, now=now + _FAR_AHEAD)
        took_s = time.monotonic() - began_s
        cold, times_ms = _search_all(stack, url, kinds[HOT_SEARCHES[1]], now)
    _compare(pages[HOT_SEARCHES[1]], cold)
    figures += _times(COLD_ENTITY, times_ms, "all of 30 days archived")
    figures += _files(cold)
    figures.append(
        Figure(name="archiving 30 days", value=took_s, unit="s", n=rows, note="two processes")
    )
    return figures


@dataclass(frozen=True, slots=True)
class _Sample:
    """Values that are stored."""

    stack: Stack
    rows: int
    count: int

    def of(self, columns: str) -> list[tuple[str, ...]]:
        """Distinct values of some columns with their tenant."""
        percent = min(100.0, max(0.05, 2_000_000 / self.rows))
        statement = _SAMPLE.format(columns=columns, seed=SEED, count=self.count, percent=percent)
        return self.stack.connection.execute(statement.encode()).fetchall()


def _queries(sample: _Sample, rng: random.Random, now: datetime) -> dict[str, list[EventQuery]]:
    """Searches of each kind, no two alike."""
    searches = sample.count
    tenants = sorted({tenant for tenant, _ in sample.of("action")})
    entities = rng.sample(sample.of("entity_type, entity_id"), searches)
    users = sample.of("user_id")
    begins = [now - rng.random() * (DAYS - 1) * _DAY for _ in range(searches)]
    return dict(
        zip(
            HOT_SEARCHES,
            (
                # The newest events of each tenant, then those before some moment, as pages are.
                [
                    EventQuery(tenant_id=tenants[number % len(tenants)], until=until, limit=PAGE)
                    for number, until in enumerate([*[None] * len(tenants), *begins][:searches])
                ],
                [
                    EventQuery(tenant_id=tenant, entity_type=kind, entity_id=name, limit=PAGE)
                    for tenant, kind, name in entities
                ],
                [
                    EventQuery(
                        tenant_id=users[number % len(users)][0],
                        user_id=users[number % len(users)][1],
                        until=None if number < len(users) else until,
                        limit=PAGE,
                    )
                    for number, until in enumerate(begins)
                ],
                [
                    EventQuery(
                        tenant_id=tenants[number % len(tenants)],
                        status="failure",
                        since=since,
                        until=since + _DAY,
                        limit=PAGE,
                    )
                    for number, since in enumerate(begins)
                ],
            ),
            strict=True,
        )
    )


def _search_all(
    stack: Stack, url: str, queries: Sequence[EventQuery], now: datetime
) -> tuple[list[Page], list[float]]:
    """Search one after the other on one connection, as the gateway does."""
    reader_url = stack.settings.reader_url
    assert reader_url is not None  # noqa: S101 - set by running_stack
    searcher = Searcher(url=reader_url.get_secret_value(), is_operator=False, timeout_s=60)
    pages: list[Page] = []
    times_ms: list[float] = []
    with Everywhere.opened(searcher, Archive([url])) as everywhere:
        # What is imported and prepared with the first search is not what is asked.
        everywhere.search(replace(queries[-1], limit=1), now=now)
        for query in queries:
            began_s = time.perf_counter()
            pages.append(everywhere.search(query, now=now))
            times_ms.append((time.perf_counter() - began_s) * 1000)
    return pages, times_ms


def _compare(hot: Sequence[Page], cold: Sequence[Page]) -> None:
    """Fail when the archive gives another page than PostgreSQL gave."""
    for before, after in zip(hot, cold, strict=True):
        if [dict(row) for row in before.rows] != [dict(row) for row in after.rows]:
            raise RuntimeError("hot and cold pages differ: the figures would mean nothing")


def _files(pages: Sequence[Page]) -> Iterator[Figure]:
    opened = [page.archive.opened for page in pages]
    skipped = [page.archive.skipped for page in pages]
    # The row beyond the page may be the only one of its file.
    needed = sum(len({row["timestamp"].date() for row in page.rows}) for page in pages)
    more = sum(page.next_position is not None for page in pages)
    in_vain = sum(opened) - needed
    note = f"{sum(opened)} of {sum(opened) + sum(skipped)}; {needed} hold rows of the pages"
    yield Figure(
        name="files opened per cold entity search", value=mean(opened), unit="", n=len(pages)
    )
    yield Figure(
        name="files skipped per cold entity search", value=mean(skipped), unit="", n=len(pages)
    )
    yield Figure(
        name="files opened in vain, at most",
        value=100 * in_vain / max(sum(opened) + sum(skipped), 1),
        unit="%",
        n=sum(opened),
        note=f"{note}; {more} pages had a next one",
    )
    groups: Any = sum(page.archive.groups_read for page in pages)
    yield Figure(
        name="row groups read per cold entity search",
        value=groups / len(pages),
        unit="",
        n=len(pages),
    )


def _times(name: str, times_ms: Sequence[float], note: str) -> list[Figure]:
    shown = {"p50": percentile(times_ms, 50), "p95": percentile(times_ms, 95)}
    figures = [
        Figure(name=f"{name}, {one}", value=value, unit="ms", n=len(times_ms), note=note)
        for one, value in shown.items()
    ]
    return [
        *figures,
        Figure(name=f"{name}, max", value=max(times_ms), unit="ms", n=len(times_ms)),
    ]


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--rows", type=int, default=ROWS)
    options.add_argument("--searches", type=int, default=SEARCHES)
    given = options.parse_args()
    figures = measure(rows=given.rows, searches=given.searches)
    report(NAME, figures, keep=given.keep, ratios=ratios_among(figures))


if __name__ == "__main__":
    main()
