"""How much memory did this process take?"""


def peak_kib() -> int:
    """Peak of the resident memory of this process, since it began."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - no regular file
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
