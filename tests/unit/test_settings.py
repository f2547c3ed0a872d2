"""What a wrong setting says."""

import pytest

from audit_platform.errors import InvalidSetting
from audit_platform.settings import load_settings


@pytest.mark.parametrize("name", ["archive_url", "archive_copy_url"])
@pytest.mark.parametrize("url", ["ftp://x", "/srv/archive", "file://host/x", "s3://key:pw@bucket"])
def test_archive_at_a_place_that_is_none_says_what_to_write(name: str, url: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        load_settings(**{name: url})

    assert f"AUDIT_{name.upper()}: write file:///directory or s3://bucket/prefix" in str(
        caught.value
    )
    assert "pw" not in str(caught.value)
