"""Writers that are killed or forked: what was told is on the disk, and the parent goes on."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from audit_platform.client.spool_format import SpoolStream
from audit_platform.crash_points import arm
from audit_platform.errors import SpoolFailed
from tests.effort import examples
from tests.unit.client.forked import forked
from tests.unit.client.spool_files import EPOCH, numbers, open_spool, records

DURABLE: Final = SpoolStream.DURABLE


def test_killed_writer_leaves_everything_that_it_was_told(tmp_path: Path) -> None:
    chance = random.Random(random.getrandbits(32))
    for number in range(examples(25)):
        directory = tmp_path / str(number)

        def run(say: Callable[[object], None], directory: Path = directory) -> None:
            spool = open_spool(directory, segment_bytes=3000)
            for seq in range(1, 1_000_000, 3):
                spool.append(EPOCH, records(seq, seq + 2), stream=DURABLE)
                say(seq + 2)

        with forked(run) as child:
            early = b"".join(os.read(child.output, 5) for _ in range(chance.randrange(1, 60)))
            child.kill()
            assert child.wait() == -signal.SIGKILL
            told = (early + child.rest()).split(b"\n")[:-1]

        found = numbers(open_spool(directory))
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= (int(told[-1]) if told else 0)
        shutil.rmtree(directory)


def test_process_killed_after_the_fsync_leaves_the_record(tmp_path: Path) -> None:
    def run(say: Callable[[object], None]) -> None:
        spool = open_spool(tmp_path)
        arm("P_SPOOLED")
        say("armed")
        spool.append(EPOCH, records(1, 1), stream=DURABLE)
        say("alive")

    with forked(run) as child:
        assert child.lines() == ["armed"]
        assert child.wait() == -signal.SIGKILL

    assert numbers(open_spool(tmp_path)) == [1]


def test_forked_child_lets_go_of_the_segments_and_the_parent_goes_on(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(EPOCH, records(1, 1), stream=DURABLE)

    def run(say: Callable[[object], None]) -> None:
        spool.abandon_after_fork()
        say([name for name in _open_files() if name.startswith(str(tmp_path))])
        try:
            spool.append(EPOCH, records(2, 2), stream=DURABLE)
        except SpoolFailed:
            say("refused")

    with forked(run) as child:
        assert child.lines() == ["[]", "refused"]
    spool.append(EPOCH, records(2, 2), stream=DURABLE)

    assert numbers(spool) == [1, 2]
    assert any(name.startswith(str(tmp_path)) for name in _open_files())


def _open_files() -> list[str]:
    names: list[str] = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(path.readlink()))
        except OSError:  # the descriptor of this very listing
            continue
    return names
