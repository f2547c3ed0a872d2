"""The results in `docs/benchmarks.md`, written from `results/*.json` after a full run.

Here: rendering below the marker. The text above it is written by hand and stays.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.figures import RESULTS, Figure, as_text
from benchmarks.ratios import ratios_of

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
MARKER = "<!-- Below this line: written by `make bench`. -->"


def write_document() -> None:
    """Replace everything below the marker by the latest results."""
    text, marker, _ = DOCUMENT.read_text(encoding="utf-8").partition(MARKER)
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    DOCUMENT.write_text(f"{text}{marker}\n\n{render(results)}", encoding="utf-8")


def render(results: list[dict[str, Any]]) -> str:
    """Write ratios, then each benchmark with its date and machine."""
    measured = {
        figure["name"]: (figure["value"], figure["n"])
        for result in results
        for figure in result["figures"]
    }
    parts = ["### Ratios", _table(ratios_of(measured))]
    for result in results:
        figures = [Figure(**figure) for figure in result["figures"]]
        parts += [f"### {result['benchmark']}", _origin(result), _table(figures)]
    return "\n\n".join(parts) + "\n"


def _origin(result: dict[str, Any]) -> str:
    machine = result["machine"]
    libraries = ", ".join(f"{name} {number}" for name, number in machine["libraries"].items())
    return (
        f"{result['measured_at'][:10]}, {machine['cores']} cores {machine['cpu']}, "
        f"{machine['memory_gib']} GiB, {machine['system']}, Python {machine['python']}, "
        f"{libraries}, commit {machine['commit']}."
    )


def _table(figures: list[Figure]) -> str:
    return "\n".join(("| what | value | n | note |", "|---|--:|--:|---|", *map(_row, figures)))


def _row(figure: Figure) -> str:
    value = f"{as_text(figure.value)} {figure.unit}".strip()
    return f"| {figure.name} | {value} | {figure.n:,} | {figure.note} |"
