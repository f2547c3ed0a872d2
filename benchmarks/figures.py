"""Figures of benchmarks: machine line, JSON files, the change since the last run.

Here: one `Figure` per number, one file per benchmark in `results/`, the committed one being the
latest. Not here: measuring.
"""

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("polars", "psycopg", "redis", "msgspec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number.

    Attributes:
        name: What was measured; the key when two runs are compared.
        value: The number.
        unit: Its unit; empty for a ratio.
        n: How many things it was measured over.
        note: Bound or spread, for people.
    """

    name: str
    value: float
    unit: str
    n: int
    note: str = ""


def percentile(values: Sequence[float], percent: int) -> float:
    """Percentile of at least two values, 1 to 99."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def machine() -> dict[str, Any]:
    """Describe what the figures depend on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "commit": _commit(),
    }


def machine_line() -> str:
    """The machine in one line."""
    found = machine()
    return (
        f"{found['cores']} cores {found['cpu']}, {found['memory_gib']} GiB, {found['system']}, "
        f"Python {found['python']}, {datetime.now(UTC):%Y-%m-%d}, commit {found['commit']}"
    )


def read_last(benchmark: str) -> dict[str, float]:
    """Values by name of the last run; empty when there is none."""
    path = RESULTS / f"{benchmark}.json"
    if not path.exists():
        return {}
    return {figure["name"]: figure["value"] for figure in json.loads(path.read_text())["figures"]}


def write_result(benchmark: str, figures: Sequence[Figure]) -> None:
    """Keep the figures of a run as the latest of this benchmark."""
    RESULTS.mkdir(exist_ok=True)
    content = {
        "benchmark": benchmark,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "figures": [asdict(figure) for figure in figures],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (RESULTS / f"{benchmark}.json").write_text(f"{text}\n", encoding="utf-8")


def print_figures(figures: Sequence[Figure], last: dict[str, float]) -> None:
    """Print one table with the change since the last run."""
    table = Table(caption=machine_line(), caption_justify="left")
    table.add_column("what")
    for heading in ("value", "unit", "n", "last", "change"):
        table.add_column(heading, justify="right")
    table.add_column("note")
    for figure in figures:
        before = last.get(figure.name)
        table.add_row(
            figure.name,
            as_text(figure.value),
            figure.unit,
            f"{figure.n:,}",
            "–" if before is None else as_text(before),
            "–" if not before else f"{(figure.value / before - 1) * 100:+.0f} %",
            figure.note,
        )
    Console(width=150).print(table)


def options_of(question: str | None) -> argparse.ArgumentParser:
    """Begin the options of one benchmark that is called by itself."""
    options = argparse.ArgumentParser(description=question)
    options.add_argument("--keep", action="store_true", help="write benchmarks/results")
    return options


def report(
    benchmark: str, figures: Sequence[Figure], *, keep: bool, ratios: Sequence[Figure] = ()
) -> None:
    """Print what was measured beside the last run, and keep it if asked to."""
    print_figures([*figures, *ratios], read_last(benchmark))
    if keep:
        write_result(benchmark, figures)


def as_text(value: float) -> str:
    """Write a number for people: thousands whole, smaller ones with three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    completed = subprocess.run(
        ("git", "rev-parse", "--short", "HEAD"),  # noqa: S607 - whichever git the machine has
        cwd=RESULTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return completed.stdout.strip() or "unknown"
