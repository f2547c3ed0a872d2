"""Kills of storage steps as `make chaos` counts them.

Here: kills that were proved, with the seconds until another process had ended what was left, as a
result of `report.py`. Not here: the kills.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.chaos.harness.extent import start_number
from tests.chaos.harness.report import NO_REDIS, Result, publish
from tests.conftest import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One process that ended by SIGKILL, as its exit status said.

    Attributes:
        point: Where.
        kills: Processes, where several died at the same point before one was let through.
        recovery_s: How long the next process took to the end of what this one began; None where
            that one was killed too, further on.
    """

    point: str
    kills: int = 1
    recovery_s: float | None = None


def publish_kills(
    database: Database,
    name: str,
    kills: Sequence[Kill],
    *,
    rows: int,
    part: str = "",
    seed: int | None = None,
) -> None:
    """Publish the kills of a test after which every row was found once.

    Args:
        database: That the processes worked on.
        name: Of the result.
        kills: In any order.
        rows: Rows that were there before and after.
        part: Which part of the result this is, where several tests make it.
        seed: From which choices were drawn, if any.
    """
    faults: defaultdict[str, dict[str, Any]] = defaultdict(
        lambda: {"n": 0, "proved": 0, "kills": 0, "recovery_s": []}
    )
    for kill in kills:
        kind = faults[kill.point]
        kind["n"] += kill.kills
        kind["proved"] += kill.kills
        kind["kills"] += kill.kills
        if kill.recovery_s is not None:
            kind["recovery_s"].append(round(kill.recovery_s, 3))
    with psycopg.connect(database.admin_url) as conn:
        version = conn.info.parameter_status("server_version") or "unknown"
    publish(
        Result(
            name=name,
            part=part,
            postgres=version.partition(" ")[0],
            redis=NO_REDIS,
            seed=start_number() if seed is None else seed,
            seconds=round(sum(kill.recovery_s or 0.0 for kill in kills), 1),
            accepted={"stored": rows},
            lost=0,
            excused=0,
            missing={},
            recovered=0,
            duplicated=0,
            unexpected=0,
            missing_numbers=0,
            faults=dict(faults),
        )
    )
