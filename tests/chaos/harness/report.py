"""Figures of fault tests: one JSON file per test, one table at the end of `make chaos`.

Here: collecting, writing and printing. Not here: the rules that make a test fail (`oracle.py` and
the tests). Run with `-m` and a directory it prints every result in it and writes `report.json`.
"""

import json
import os
import platform
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.chaos.harness.oracle import Verdict
from tests.chaos.harness.reader import Seen
from tests.chaos.harness.recovery import Fault

DIRECTORY: Final = os.environ.get("AUDIT_TEST_CHAOS_DIR")
TOTAL: Final = "report.json"
NO_REDIS: Final = "not used"
"""Version of Redis in results about storage."""
# 95 % upper bound of a rate after no failure in N trials is 3/N.
RULE_OF_THREE: Final = 3
# Goals R1 and R4 of the faults design.
LEAST_KILLS: Final = 200
LEAST_ACCEPTED: Final = 100_000
MOST_RECOVERY_P95_S: Final = 30.0
_SUMS: Final = ("lost", "excused", "recovered", "duplicated", "unexpected", "missing_numbers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Figures of one test."""

    name: str
    postgres: str
    redis: str
    seed: int
    seconds: float
    accepted: Mapping[str, int]
    lost: int
    """Accepted, not stored, and not excused by the class."""
    excused: int
    missing: Mapping[str, int]
    """Accepted and not stored, by class, whether excused or not."""
    recovered: int
    duplicated: int
    unexpected: int
    missing_numbers: int
    faults: Mapping[str, Mapping[str, Any]]
    """By kind: `n`, `proved`, `kills`, `recovery_s`."""
    reader: Mapping[str, Any] = field(default_factory=dict[str, Any])
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    python: str = platform.python_version()
    machine: str = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}"
    at: str = ""
    part: str = ""
    """Of a test that several processes make in parts: parts of one name are shown as one result."""

    @property
    def kills(self) -> int:
        """Processes ended by SIGKILL."""
        return sum(kind["kills"] for kind in self.faults.values())


def result_of(
    name: str,
    *,
    versions: tuple[str, str],
    seed: int,
    seconds: float,
    verdict: Verdict,
    faults: Iterable[Fault],
    seen: Seen | None = None,
    **more: object,
) -> Result:
    """Bring the parts of a test together.

    Args:
        name: Of the test, with its stack.
        versions: Of PostgreSQL and Redis, as the servers say.
        seed: Number from which every choice came.
        seconds: Length of the test.
        verdict: The last one.
        faults: All of them.
        seen: By the concurrent reader.
        **more: Whatever else the test found.
    """
    return Result(
        name=name,
        postgres=versions[0],
        redis=versions[1],
        seed=seed,
        seconds=round(seconds, 1),
        accepted=dict(verdict.accepted),
        lost=len(verdict.unexcused),
        excused=verdict.excused,
        missing=dict(verdict.lost),
        recovered=verdict.recovered,
        duplicated=verdict.duplicated,
        unexpected=len(verdict.unexpected),
        missing_numbers=verdict.gap_count,
        faults=_by_kind(faults),
        reader=_of_reader(seen) if seen is not None else {},
        more=more,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def publish(result: Result) -> None:
    """Print a result; keep it where `make chaos` collects them."""
    say("\n".join(lines_of(asdict(result))))
    if DIRECTORY:
        directory = Path(DIRECTORY)
        directory.mkdir(parents=True, exist_ok=True)
        major = result.postgres.partition(".")[0]
        name = f"pg{major}-{f'{result.name} {result.part}'.strip().replace(' ', '-')}.json"
        (directory / name).write_text(json.dumps(asdict(result), indent=1) + "\n")


def percentile(values: Sequence[float], share: float) -> float:
    """Value below which a share of the values lies; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def lines_of(result: Mapping[str, Any]) -> list[str]:
    """The table of one result."""
    accepted = sum(result["accepted"].values())
    kills = sum(kind["kills"] for kind in result["faults"].values())
    by_class = ", ".join(f"{name} {n:,}" for name, n in sorted(result["accepted"].items()))
    missing = ", ".join(f"{name} {n:,}" for name, n in sorted(result["missing"].items()))
    lines = [
        "",
        (
            f"{result['name']} · PostgreSQL {result['postgres']} · Redis {result['redis']} · "
            f"Python {result['python']} · {result['machine']} · start number {result['seed']}"
        ),
        f"{result['seconds']:,.0f} s, {kills} kills, {accepted:,} accepted ({by_class})",
        f"lost {result['lost']}, excused by class {result['excused']} ({missing or 'none'}), "
        f"recovered of unknown fate {result['recovered']}, duplicated {result['duplicated']}, "
        f"unexpected {result['unexpected']}, missing numbers {result['missing_numbers']}"
        + _bound(result["lost"], accepted),
    ]
    if result["faults"]:
        lines.append(
            f"{'fault':34} {'N':>4} {'proved':>7} {'kills':>6}   recovery p50 / p95 / max, s"
        )
    for name, kind in sorted(result["faults"].items()):
        seconds = kind["recovery_s"]
        lines.append(
            f"{name:34} {kind['n']:4} {kind['proved']:7} {kind['kills']:6}"
            f"   {percentile(seconds, 0.5):6.2f} / {percentile(seconds, 0.95):6.2f}"
            f" / {max(seconds, default=0):6.2f}"
        )
    lines += [f"{name}: {value}" for name, value in {**result["reader"], **result["more"]}.items()]
    return lines


def _bound(lost: int, accepted: int) -> str:
    if lost or not accepted:
        return ""
    share = RULE_OF_THREE / accepted
    return f"; 0 of {accepted:,} lost: below {share:.4%} with 95 % confidence (3/N)"


def _by_kind(faults: Iterable[Fault]) -> dict[str, dict[str, Any]]:
    kinds: defaultdict[str, dict[str, Any]] = defaultdict(
        lambda: {"n": 0, "proved": 0, "kills": 0, "recovery_s": []}
    )
    for fault in faults:
        kind = kinds[fault.name]
        kind["n"] += 1
        kind["proved"] += fault.is_proved
        kind["kills"] += fault.kills
        if fault.is_proved and fault.recovery_s is not None:
            kind["recovery_s"].append(round(fault.recovery_s, 3))
    return dict(kinds)


def _of_reader(seen: Seen) -> dict[str, Any]:
    return {
        "reader: polls": seen.polls,
        "reader: polls of everything": seen.whole_polls,
        "reader: duplicates": seen.duplicates,
        "reader: vanished rows": seen.vanished,
        "reader: rows": len(seen.ids),
        "longest stall, s": round(seen.longest_stall_s, 2),
        "call to visible p50 / p99 / max, s": " / ".join(
            f"{percentile(seen.stale_s, share):.2f}" for share in (0.5, 0.99, 1.0)
        ),
    }


def joined(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Join the parts of each result, in the order of the first of each."""
    whole: dict[tuple[str, str], dict[str, Any]] = {}
    for result in results:
        key = (result["postgres"], result["name"])
        if key not in whole:
            whole[key] = dict(result) | {"part": ""}
            continue
        known = whole[key]
        for name in _SUMS:
            known[name] += result[name]
        known["seconds"] = round(known["seconds"] + result["seconds"], 1)
        for name in ("accepted", "missing"):
            known[name] = dict(Counter(known[name]) + Counter(result[name]))
        known["faults"] = known["faults"] | result["faults"]
    return list(whole.values())


def total_of(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums over all results of one PostgreSQL version.

    `kills` and `accepted` are those of the path of events, for which the goals are set.
    """
    events = [result for result in results if result["redis"] != NO_REDIS]
    recoveries = [
        seconds
        for result in results
        for kind in result["faults"].values()
        for seconds in kind["recovery_s"]
    ]
    return {
        "tests": len(results),
        "kills": _kills(events),
        "accepted": sum(sum(result["accepted"].values()) for result in events),
        "storage_kills": _kills(results) - _kills(events),
        "lost": sum(result["lost"] for result in results),
        "excused": sum(result["excused"] for result in results),
        "duplicated": sum(result["duplicated"] for result in results),
        "unexpected": sum(result["unexpected"] for result in results),
        "recovery_p95_s": percentile(recoveries, 0.95),
    }


def _kills(results: Iterable[Mapping[str, Any]]) -> int:
    return sum(kind["kills"] for result in results for kind in result["faults"].values())


def shortfalls(total: Mapping[str, Any]) -> list[str]:
    """What a whole `make chaos` still owes on one PostgreSQL version; empty when it passed."""
    wrong = [
        f"{total[name]} {name}" for name in ("lost", "duplicated", "unexpected") if total[name]
    ]
    if total["kills"] < LEAST_KILLS:
        wrong.append(f"only {total['kills']} kills of {LEAST_KILLS}")
    if total["accepted"] < LEAST_ACCEPTED:
        wrong.append(f"only {total['accepted']:,} accepted of {LEAST_ACCEPTED:,}")
    if total["recovery_p95_s"] > MOST_RECOVERY_P95_S:
        wrong.append(f"recovery p95 {total['recovery_p95_s']:.1f} s")
    return wrong


def main(directory: Path) -> bool:
    """Print every result and the totals; keep all in one file; returns whether all is well."""
    paths = sorted(path for path in directory.glob("pg*.json"))
    results = joined(json.loads(path.read_text()) for path in paths)
    for result in results:
        say("\n".join(lines_of(result)))
    say("")
    totals: dict[str, Any] = {}
    for version in sorted({result["postgres"].partition(".")[0] for result in results}):
        total = total_of([one for one in results if one["postgres"].startswith(version)])
        totals[version] = total
        words = ", ".join(f"{name} {value:,}" for name, value in total.items())
        say(f"PostgreSQL {version}: {words}{_bound(total['lost'], total['accepted'])}")
        say(f"  {'; '.join(shortfalls(total)) or 'passed'}")
    document = {"totals": totals, "results": results}
    (directory / TOTAL).write_text(json.dumps(document, indent=1) + "\n")
    say(f"Kept in {directory / TOTAL}")
    return bool(totals) and not any(map(shortfalls, totals.values()))


def say(text: str) -> None:
    """Print: figures are wanted."""
    print(text)  # noqa: T201


if __name__ == "__main__":
    sys.exit(not main(Path(sys.argv[1])))
