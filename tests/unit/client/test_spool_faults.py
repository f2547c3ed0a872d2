"""Full disks, failing disks, killed writers: acknowledged is on the disk, refused is gone."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from audit_platform.client.spool import Spool
from audit_platform.client.spool_format import SpoolStream
from audit_platform.errors import SpoolError, SpoolFull
from tests.unit.client.forked import forked
from tests.unit.client.spool_files import EPOCH, numbers, open_spool, records, segment_files

DURABLE: Final = SpoolStream.DURABLE

# Appends one record per line of its input; says what became of each, and what it can read.
WRITER: Final = """
import json, sys
from pathlib import Path
from tests.unit.client.spool_files import EPOCH, numbers, open_spool, records
from audit_platform.client.spool_format import SpoolStream
from audit_platform.errors import SpoolError

spool = open_spool(Path(sys.argv[1]))
outcomes = {}
for seq in range(1, int(sys.argv[2]) + 1):
    try:
        spool.append(EPOCH, records(seq, seq), stream=SpoolStream.DURABLE)
        outcomes[seq] = "kept"
    except SpoolError as exc:
        outcomes[seq] = type(exc).__name__
print(json.dumps([outcomes, numbers(spool), spool.size_bytes]))
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)],
        capture_output=True,
        check=False,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def run_writer(
    directory: Path, count: int, *injections: str
) -> tuple[dict[int, str], list[int], int]:
    """Run the writer with failing system calls."""
    if shutil.which("strace") is None:
        pytest.skip("failing system calls need strace")
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.decode().strip()}")
    done = subprocess.run(
        [
            *("strace", "-f", "-qq", "-o", str(directory.parent / "trace")),
            *(part for one in injections for part in ("-e", f"inject={one}")),
            *(sys.executable, "-c", WRITER, str(directory), str(count)),
        ],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[3],
        timeout=100,
    )
    assert "(INJECTED)" in (directory.parent / "trace").read_text(), "the fault did not happen"
    outcomes, found, size_bytes = json.loads(done.stdout)
    return {int(seq): outcome for seq, outcome in outcomes.items()}, found, size_bytes


def fill(spool: Spool) -> int:
    """Append until the disk is full; gives the first number that was refused."""
    for seq in range(1, 1000):
        try:
            spool.append(EPOCH, records(seq, seq, size=5000), stream=DURABLE)
        except SpoolFull:
            return seq
    raise AssertionError("the disk is larger than one megabyte")


def test_full_disk_refuses_then_takes_again_once_there_is_space(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(600_000))
    spool = open_spool(small_disk / "spool")
    seq = fill(spool)
    kept = list(range(1, seq))

    assert 10 < len(kept) < 100
    assert numbers(spool) == kept
    with pytest.raises(SpoolFull, match="Free space"):
        spool.append(EPOCH, records(seq, seq, size=5000), stream=DURABLE)
    (small_disk / "ballast").unlink()
    spool.append(EPOCH, records(seq, seq, size=5000), stream=DURABLE)
    assert numbers(spool) == [*kept, seq]
    assert len(segment_files(small_disk / "spool")) == 1
    spool.close()
    reopened = open_spool(small_disk / "spool")
    assert numbers(reopened) == [*kept, seq]
    assert reopened.torn_records == 0


def test_full_disk_without_room_for_a_new_segment_leaves_no_file(small_disk: Path) -> None:
    spool = open_spool(small_disk / "spool")
    (small_disk / "ballast").write_bytes(bytes(small_disk_free(small_disk)))

    with pytest.raises(SpoolFull):
        spool.append(EPOCH, records(1, 1), stream=DURABLE)

    assert segment_files(small_disk / "spool") == []
    assert spool.size_bytes == 0


def small_disk_free(place: Path) -> int:
    status = os.statvfs(place)
    return status.f_bavail * status.f_bsize


def test_full_disk_frees_confirmed_segments_before_their_time(small_disk: Path) -> None:
    spool = open_spool(small_disk / "spool", segment_bytes=50_000)
    seq = fill(spool)

    assert spool.prune(lambda _epoch, _first, last: last <= 100) >= 50_000
    assert spool.prune(lambda _epoch, _first, last: last <= 100) == 0
    spool.append(EPOCH, records(seq, seq, size=5000), stream=DURABLE)
    assert numbers(spool)[-1] == seq


def test_failed_fdatasync_loses_nothing_acknowledged_and_starts_a_new_segment(
    tmp_path: Path,
) -> None:
    """The kernel may drop the pages of a failed fdatasync: the file takes no more records."""
    place = tmp_path / "spool"

    outcomes, found, size_bytes = run_writer(place, 6, "fdatasync:error=EIO:when=4")

    assert outcomes == {n: "SpoolFailed" if n == 4 else "kept" for n in range(1, 7)}
    assert found == [1, 2, 3, 5, 6]
    assert [file.name for file in segment_files(place)] == [f"{EPOCH}-1.seg", f"{EPOCH}-5.seg"]
    assert size_bytes == sum(file.stat().st_size for file in segment_files(place))
    assert numbers(open_spool(place)) == [1, 2, 3, 5, 6]


def test_disk_that_fails_for_good_keeps_refusing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    place = tmp_path / "spool"

    outcomes, found, _ = run_writer(place, 5, "fdatasync:error=EIO:when=3+")

    assert outcomes == {n: "kept" if n < 3 else "SpoolFailed" for n in range(1, 6)}
    assert found == [1, 2]
    assert len(segment_files(place)) == 1
    assert numbers(open_spool(place)) == [1, 2]


@pytest.mark.parametrize(
    ("injections", "outcome"),
    [
        (("fdatasync:error=ENOSPC:when=3",), "SpoolFull"),
        (("fdatasync:error=EDQUOT:when=3",), "SpoolFull"),
        (("pwrite64:error=EIO:when=4",), "SpoolFailed"),
        (("pwrite64:error=ENOSPC:when=4",), "SpoolFull"),
        (("pwrite64:error=EROFS:when=4", "ftruncate:error=EROFS"), "SpoolFailed"),
    ],
    ids=["sync-full", "sync-quota", "write-fails", "write-full", "cut-fails-too"],
)
def test_failing_call_refuses_one_append_and_the_next_succeeds(
    tmp_path: Path, injections: tuple[str, ...], outcome: str
) -> None:
    place = tmp_path / "spool"

    outcomes, found, _ = run_writer(place, 5, *injections)

    assert outcomes == {n: outcome if n == 3 else "kept" for n in range(1, 6)}
    assert found == [1, 2, 4, 5]
    assert numbers(open_spool(place)) == [1, 2, 4, 5]


def test_file_size_limit_cuts_the_write_and_the_next_segment_goes_on(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes a write short, and the next one fails with EFBIG."""

    def run(say: Callable[[object], None]) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        spool = open_spool(tmp_path)
        for first in (1, 11, 21, 31, 41):
            try:
                spool.append(EPOCH, records(first, first + 9), stream=DURABLE)
                say(first)
            except SpoolError as exc:
                say(type(exc).__name__)
        say(numbers(spool))

    with forked(run) as child:
        lines = child.lines()

    kept = [*range(1, 21), *range(31, 51)]
    assert lines == ["1", "11", "SpoolFailed", "31", "41", str(kept)]
    assert numbers(open_spool(tmp_path)) == kept
