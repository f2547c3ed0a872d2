"""How much a generated test tries: little in every run, much when somebody asks.

`AUDIT_TEST_EXAMPLES=10000 pytest tests/unit/client/test_spool_model.py` raises the number of
examples of every test that calls `examples`.
"""

import os


def examples(usual: int) -> int:
    """Say how many examples to try: the usual number, or more when the variable says so."""
    return max(usual, int(os.environ.get("AUDIT_TEST_EXAMPLES", "0")))
