"""Which tests go to one process together, and which begin first.

Here: the scheduler of pytest-xdist that `make test` uses. Tests that share a platform of their
own go to one process, otherwise each process starts that platform; these and the slow ones begin
first, so that no process waits at the end for the long test of another. Small tests travel by
file: a message for each of thousands costs more than they do.
Not here: the order within a directory, which pytest-randomly draws.

The marker `xdist_group` does not do it: pytest 9.2 gave node ids a new form that pytest-xdist 3.8
does not write, and all groups fell apart without a word (pytest-dev/pytest-xdist#1386).
"""

from collections import OrderedDict
from typing import Final

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

TOGETHER: Final = {
    # A platform of its own each; two at a time are what two cores bear.
    "tests/acceptance/test_supervisor.py": "supervisor",
    "tests/acceptance/": "acceptance",
    # A server or an archive for the whole file.
    "tests/integration/archive/test_remote_store.py": "object store",
    "tests/integration/search/test_everywhere.py": "everywhere",
    "tests/integration/search/test_search_limit.py": "search limit",
    "tests/integration/search/test_reader_isolation.py": "reader isolation",
    "tests/architecture/test_wheel.py": "wheel",
}
"""Beginnings of paths and the group of what they name; the first that fits counts."""
SMALL: Final = ("tests/unit/", "tests/architecture/", "tests/contract/")
"""Directories whose tests need no service."""


def group_of(nodeid: str) -> str:
    """Name the tests that go to the same process as this one: itself alone, where it is slow."""
    for beginning, group in TOGETHER.items():
        if nodeid.startswith(beginning):
            return group
    return nodeid.partition("::")[0] if nodeid.startswith(SMALL) else nodeid


def turn_of(group: str) -> int:
    """Say when a group begins: platforms, then other groups and single tests, then the small."""
    if group in {"acceptance", "supervisor"}:
        return 0
    return 2 if group.startswith(SMALL) else 1


class GroupedScheduling(LoadScopeScheduling):
    """Hands whole groups to processes, the longest first."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if not self.assigned_work.get(node):  # the first of this process: all may be ordered anew
            ordered = sorted(self.workqueue.items(), key=lambda item: turn_of(item[0]))
            self.workqueue = OrderedDict(ordered)
        super()._assign_work_unit(node)
