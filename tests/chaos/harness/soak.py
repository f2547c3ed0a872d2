"""G09: a steady rate for an hour, one fault a minute; lost 0, duplicated 0, no growing memory.

Run with `-m` (`make soak`). One producer and one drain are spared from kills, so that their
memory can be followed from beginning to end; all other faults hit them too. Prints the table and
one line that begins with PASS or FAIL.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from random import Random
from threading import Event, Thread
from typing import Final

import psutil

from tests.chaos.harness.extent import start_number
from tests.chaos.harness.fast_stack import FastStack, fast_stack
from tests.chaos.harness.kills import FAULTS, inject
from tests.chaos.harness.report import publish, result_of

PRODUCERS: Final = 4
SPARED: Final = frozenset({"producer-0", "drain-a"})
# They would end the spared ones too.
LEFT_OUT: Final = frozenset({"everything SIGKILL"})
SAMPLE_S: Final = 5.0
FAULT_EVERY_S: Final = 60.0
MOST_GROWTH_PERCENT: Final = 1.0
# In a shorter soak the slope is noise.
LEAST_MINUTES: Final = 30.0
# Buffers and caches fill first.
WARM_UP_SHARE: Final = 0.2
RESEND_S: Final = 180.0


class Memory:
    """Resident memory of the spared processes, sampled by a thread."""

    def __init__(self, stack: FastStack) -> None:
        """Find the processes; `start` begins."""
        self.samples: dict[str, list[tuple[float, int]]] = {name: [] for name in SPARED}
        self._processes = {
            kept.name: psutil.Process(kept.pid) for kept in stack.kept if kept.name in SPARED
        }
        self._stop = Event()
        self._thread = Thread(target=self._run, name="memory", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began_s = time.monotonic()
        while not self._stop.wait(SAMPLE_S):
            for name, process in self._processes.items():
                rss = process.memory_info().rss
                self.samples[name].append((time.monotonic() - began_s, rss))

    def growth_percent(self, name: str) -> float:
        """Growth in percent per hour: slope of the line through the samples after the warm-up."""
        samples = self.samples[name]
        return slope_percent(samples[int(len(samples) * WARM_UP_SHARE) :])


def slope_percent(samples: Sequence[tuple[float, int]]) -> float:
    """Slope of the least-squares line, in percent of the mean per hour; 0 for too few samples."""
    if len(samples) < 3:
        return 0.0
    times, values = zip(*samples, strict=True)
    mean_s, mean = sum(times) / len(times), sum(values) / len(values)
    covariance = sum((t - mean_s) * (v - mean) for t, v in samples)
    variance = sum((t - mean_s) ** 2 for t in times)
    return covariance / variance * 3600 / mean * 100


def soak(*, minutes: float, rate: float) -> bool:
    """Run; returns whether all is well."""
    seed, began_s = start_number(), time.monotonic()
    say(f"Soak for {minutes:g} minutes at {rate:g} events/s, start number {seed}")
    with fast_stack(seed=seed, producers=PRODUCERS, rate=rate / PRODUCERS, spared=SPARED) as stack:
        memory = Memory(stack)
        memory.start()
        _fault_a_minute(stack, end_s=began_s + 60 * minutes)
        has_recovered = stack.recoveries.wait_until_all(within_s=RESEND_S)
        memory.stop()
        verdict = stack.settle(within_s=RESEND_S)
        seen = stack.reader.stop()
        growth = {name: memory.growth_percent(name) for name in sorted(SPARED)}
        publish(
            result_of(
                "soak",
                versions=stack.services.versions(),
                seed=seed,
                seconds=time.monotonic() - began_s,
                verdict=verdict,
                faults=stack.recoveries.faults,
                seen=seen,
                **{f"{name}: memory, %/h": round(value, 2) for name, value in growth.items()},
            )
        )
        problems = [*verdict.problems(), *stack.unasked_ends()]
    problems += [] if has_recovered else ["a fault has not been recovered from"]
    problems += [] if (seen.duplicates, seen.vanished) == (0, 0) else ["the reader saw damage"]
    if minutes >= LEAST_MINUTES:
        problems += [
            f"{name} grows by {value:.1f} %/h"
            for name, value in growth.items()
            if value >= MOST_GROWTH_PERCENT
        ]
    else:
        say(f"Memory is judged from {LEAST_MINUTES:g} minutes on.")
    say(f"FAIL {'; '.join(problems)}" if problems else f"PASS {verdict.accepted_total:,} accepted")
    return not problems


def _fault_a_minute(stack: FastStack, *, end_s: float) -> None:
    deck: list[str] = []
    random: Random = stack.random
    next_s = time.monotonic() + FAULT_EVERY_S / 2
    while next_s < end_s:
        Event().wait(max(0.0, next_s - time.monotonic()))
        if not deck:
            deck = sorted(set(FAULTS) - LEFT_OUT)
            random.shuffle(deck)
        name = deck.pop()
        if name.startswith("drain at ") or name == "drain SIGKILL":
            _let_mortal_drain_take_over(stack)
        inject(stack, name)
        say(f"{time.strftime('%H:%M:%S')} {name}")
        next_s += FAULT_EVERY_S
    Event().wait(max(0.0, end_s - time.monotonic()))


def _let_mortal_drain_take_over(stack: FastStack) -> None:
    """Freeze the spared drain past its lease, so that the fault meets one that stores."""
    if stack.active_drain().name in SPARED:
        inject(stack, "drain frozen past its lease")
        for thread in stack.thawing:
            thread.join()


def say(line: str) -> None:
    """Print at once: an hour is long."""
    print(line, flush=True)  # noqa: T201


def main() -> None:
    """Parse the arguments; exit status 1 when something is wrong."""
    parser = argparse.ArgumentParser(description="Soak: a steady rate, a fault a minute.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=1000)
    arguments = parser.parse_args()
    sys.exit(not soak(minutes=arguments.minutes, rate=arguments.rate))


if __name__ == "__main__":
    main()
