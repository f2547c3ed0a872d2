"""Logs of our own processes: one JSON object per line on standard error.

Here: the set-up, called once by a process entry point. Not here: what is logged. Modules use the
standard `logging.getLogger(__name__)`, so that the producer SDK needs no further library.
Guarantee: n records give n lines, whatever they hold: JSON escapes line breaks, and everything
outside ASCII (bidi marks, zero width) is escaped too, so a terminal shows what was logged.
"""

import logging
import sys
from typing import TextIO

import structlog


def configure(level: str, *, stream: TextIO | None = None) -> None:
    """Send every standard log record of this process to one JSON line handler.

    Args:
        level: Least level, as in the setting `AUDIT_LOG_LEVEL`.
        stream: Where lines go; standard error when None.
    """
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
