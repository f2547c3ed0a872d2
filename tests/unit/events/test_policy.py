"""Batching figures, durability classes and shards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.events.policy import BatchPolicy, batch_policy, shard_of
from audit_platform.settings import BatchPreset


def test_presets_have_the_documented_figures() -> None:
    figures = {
        preset.value: (batch_policy(preset).size, batch_policy(preset).interval_s)
        for preset in BatchPreset
    }

    assert figures == {
        "low": (500, 30.0),
        "medium": (100, 5.0),
        "high": (50, 1.0),
        "adaptive": (1_000, 0.02),
    }


def test_explicit_figures_win_over_the_preset() -> None:
    policy = batch_policy(BatchPreset.LOW, size=7, interval_ms=250)

    assert policy == BatchPolicy(size=7, interval_s=0.25)


@pytest.mark.parametrize(("size", "interval_s"), [(0, 1.0), (1_001, 1.0), (1, 0.0)])
def test_figures_that_never_flush_are_refused(size: int, interval_s: float) -> None:
    with pytest.raises(ValueError, match="a flush takes"):
        BatchPolicy(size=size, interval_s=interval_s)


@given(st.text(), st.integers(1, 256))
def test_tenant_stays_on_one_existing_shard(tenant_id: str, shards: int) -> None:
    shard = shard_of(tenant_id, shards)

    assert shard == shard_of(tenant_id, shards)
    assert 0 <= shard < shards


def test_shards_are_those_of_crc_32_so_that_others_can_agree() -> None:
    assert [shard_of(tenant, 4) for tenant in ("default", "acme", "globex")] == [3, 2, 2]
