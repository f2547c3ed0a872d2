"""The export of a search: pages in, files out, resumable, with a manifest.

Here: the order of the steps. Not here: the form of the files (`exports/formats.py`), where pages
come from (`exports/services.py`), options (`cli/export.py`, `jobs/search_export.py`).

An export is a directory of its name: files `events.0000.csv`, …, their digests in `SHA256SUMS`,
and `manifest.json`, which is written last. While it runs, `progress.json` says where the next file
starts; it is written after each file is complete.
Guarantees: memory stays the same, however many events match; a file is there as a whole or not at
all; begun again under its name, an interrupted export goes on after its last complete file with
the moments of the first attempt, so that each event is in one file; a finished one is not made
again. What arrives while it runs, later than its end of the period, is not part of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Final

from audit_platform.archive.store import ArchiveStore, read_bytes, write_bytes
from audit_platform.errors import InvalidQuery
from audit_platform.events.event import format_timestamp
from audit_platform.exports.formats import writing
from audit_platform.exports.manifest import (
    FinishedExport,
    checksums_of,
    encode_manifest,
    manifest_of,
    read_manifest,
)
from audit_platform.exports.order import ExportOrder, settled
from audit_platform.exports.progress import (
    Checkpoint,
    ExportedFile,
    ExportProgress,
    memory_of,
    next_page_rows,
    share_done,
)
from audit_platform.search.hot import ArchiveUse, Page
from audit_platform.search.query import EventQuery, Position

MANIFEST: Final = "manifest.json"
PROGRESS: Final = "progress.json"
CHECKSUMS: Final = "SHA256SUMS"

PageSource = Callable[[EventQuery], Page]
"""Gives one page of a query; the limit of the query is the number of events wanted."""


@dataclass(slots=True)
class _State:
    """What one run of an export has done, the file being written included."""

    order: ExportOrder
    query: EventQuery
    pages: PageSource
    report: Callable[[ExportProgress], None]
    done: Checkpoint
    page_rows: int
    use: ArchiveUse

    @property
    def wanted(self) -> int | None:
        """Events still wanted after the complete files; None: all."""
        return None if self.order.most_rows is None else self.order.most_rows - self.done.rows


@dataclass(slots=True)
class _OpenFile:
    """The file being written."""

    position: Position | None
    rows: int = 0
    newest: datetime | None = None
    oldest: datetime | None = None
    is_last: bool = False
    has_more: bool = False


def run_export(
    order: ExportOrder,
    *,
    pages: PageSource,
    store: ArchiveStore,
    now: datetime,
    report: Callable[[ExportProgress], None],
) -> FinishedExport:
    """Export a search, or go on with it.

    Call it under a lock on the name: two at once would write the same files.

    Args:
        order: What, in which form, under which name.
        pages: The search.
        store: Where the directory of the export is made.
        now: Aware; the end of the period of an export that names none and has not begun.
        report: Told after each page.

    Returns:
        The export, also if it was finished before.

    Raises:
        InvalidQuery: The name belongs to an export of another search, or the search is refused.
        UnreadableFile: What an export of this name left is damaged.
        ArchiveError: The destination takes no files.
        DatabaseError: As the search.
    """
    finished = _finished(order, store)
    if finished is not None:
        return finished
    store.remove_leftovers(order.name)
    done = _interrupted(order, store) or _begun(order, now)
    state = _State(
        order=order,
        query=done.resumed(order.query),
        pages=pages,
        report=report,
        done=done,
        page_rows=next_page_rows(0, 0),
        use=ArchiveUse(),
    )
    while not state.done.is_last:
        state.done = _add_file(state, store)
        write_bytes(store, _path(order, PROGRESS), state.done.to_json())
    return _finish(order, state.done, store)


def _finished(order: ExportOrder, store: ArchiveStore) -> FinishedExport | None:
    path = _path(order, MANIFEST)
    if not store.exists(path):
        return None
    content = read_bytes(store, path)
    digest, export = read_manifest(content, path=path, sha256=sha256(content).hexdigest())
    _check_same(order, digest)
    # Left by a process that was killed after the manifest.
    store.delete(_path(order, PROGRESS))
    return export


def _interrupted(order: ExportOrder, store: ArchiveStore) -> Checkpoint | None:
    """Where an interrupted export goes on: after the last file that is what was written."""
    path = _path(order, PROGRESS)
    if not store.exists(path):
        return None
    done = Checkpoint.from_json(read_bytes(store, path))
    _check_same(order, done.digest)
    for file in done.files:
        if not store.exists(file.path) or store.sha256(file.path) != file.sha256:
            raise InvalidQuery(
                f"{file.path} is not what this export wrote: remove {order.name} and export again, "
                "or export under another name"
            )
    return done


def _check_same(order: ExportOrder, digest: str) -> None:
    if digest != order.digest:
        raise InvalidQuery(
            f"an export {order.name} with other filters or another form is there already: export "
            "under another name, or repeat its options exactly"
        )


def _begun(order: ExportOrder, now: datetime) -> Checkpoint:
    query = settled(order.query, now=now)
    return Checkpoint(digest=order.digest, moment=now, since=query.since, until=query.until or now)


def _add_file(state: _State, store: ArchiveStore) -> Checkpoint:
    """Write the next file as a whole."""
    done, order = state.done, state.order
    path = _path(order, f"events.{len(done.files):04d}.{order.format.value}")
    file = _OpenFile(position=done.position)
    with store.write(path) as sink:
        with writing(order.format, sink) as writer:
            while not file.is_last and file.rows < order.rows_per_file:
                page = state.pages(_next_query(state, file))
                writer.write(page.rows)
                _note(state, file, page)
                state.report(_progress(state, file, sink.bytes_written))
        sink_bytes, digest = sink.bytes_written, sink.sha256
    written = ExportedFile(
        path=path,
        sha256=digest,
        size_bytes=sink_bytes,
        rows=file.rows,
        newest=file.newest and format_timestamp(file.newest),
        oldest=file.oldest and format_timestamp(file.oldest),
    )
    return replace(
        done,
        files=(*done.files, written),
        position=file.position,
        is_last=file.is_last,
        has_more=file.has_more,
    )


def _next_query(state: _State, file: _OpenFile) -> EventQuery:
    room = state.order.rows_per_file - file.rows
    wanted = room if state.wanted is None else min(room, state.wanted - file.rows)
    return replace(state.query, after=file.position, limit=min(state.page_rows, wanted))


def _note(state: _State, file: _OpenFile, page: Page) -> None:
    """Take account of a page that was written."""
    state.use += page.archive
    file.rows += len(page.rows)
    if page.rows:
        file.newest = file.newest or page.rows[0]["timestamp"]
        file.oldest = page.rows[-1]["timestamp"]
        state.page_rows = next_page_rows(len(page.rows), sum(map(memory_of, page.rows)))
    file.position = page.next_position or file.position
    is_enough = state.wanted is not None and file.rows >= state.wanted
    file.is_last = page.next_position is None or is_enough
    file.has_more = page.next_position is not None


def _progress(state: _State, file: _OpenFile, file_bytes: int) -> ExportProgress:
    return ExportProgress(
        rows=state.done.rows + file.rows,
        bytes_=state.done.size_bytes + file_bytes,
        files=len(state.done.files) + 1,
        reached=file.oldest,
        share=share_done(state.query, file.oldest),
        files_opened=state.use.opened,
        files_skipped=state.use.skipped,
    )


def _finish(order: ExportOrder, done: Checkpoint, store: ArchiveStore) -> FinishedExport:
    """Write checksums and manifest; the manifest last, because it says that all is there."""
    write_bytes(store, _path(order, CHECKSUMS), checksums_of(done.files))
    path = _path(order, MANIFEST)
    content = encode_manifest(manifest_of(order, done))
    digest = write_bytes(store, path, content)
    store.delete(_path(order, PROGRESS))
    return read_manifest(content, path=path, sha256=digest)[1]


def _path(order: ExportOrder, file: str) -> str:
    return f"{order.name}/{file}"
