"""One record is one line, whatever it holds."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from audit_platform.observability.log import configure


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    configure("INFO", stream=stream)
    yield stream
    root.handlers = handlers
    root.setLevel(level)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text() | st.sampled_from(["a\r\nb", "\x1b[31mred", "\u202eabc", "\u2028x"]))
def test_every_record_is_one_ascii_line(lines: io.StringIO, text: str) -> None:
    lines.seek(0)
    lines.truncate()

    logging.getLogger("audit_platform.test").warning("got %s", text, extra={"field": text})

    written = lines.getvalue()
    assert written.count("\n") == 1
    assert written.isascii()
    assert "\x1b" not in written
    assert json.loads(written)["event"] == f"got {text}"
    assert json.loads(written)["field"] == text


def test_an_error_carries_its_traceback_in_the_same_line(lines: io.StringIO) -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logging.getLogger("audit_platform.test").exception("failed")

    record = json.loads(lines.getvalue())
    assert record["level"] == "error"
    assert "ZeroDivisionError" in record["exception"]
