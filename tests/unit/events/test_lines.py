"""Entry fields as bytes: packing keeps every byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.events.lines import pack_fields, unpack_fields


@given(st.dictionaries(st.binary(max_size=10), st.binary(max_size=30), max_size=6))
def test_packed_fields_come_back(fields: dict[bytes, bytes]) -> None:
    assert unpack_fields(pack_fields(fields)) == fields


@pytest.mark.parametrize("packed", [b"5:abc", b"abc", b"1:a", b"x:a,1:b"])
def test_other_bytes_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack_fields(packed)
