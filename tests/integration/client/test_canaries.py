"""A hundred planted secrets: none of them reaches Redis (security design, S21)."""

import random
import string

import pytest

from audit_platform.client import AuditClient
from tests.conftest import RedisSpace

pytestmark = pytest.mark.integration

ALPHABET = string.ascii_letters + string.digits
KEYS = ("password", "api_key", "client_secret", "Authorization", "refreshToken", "cookie", "cvv")
PREFIXES = ("sk_live_", "ghp_", "xoxb-", "AKIA", "github_pat_", "glpat-", "sk-proj-", "hvs.")


def make_canaries() -> list[tuple[str, dict[str, object]]]:
    """Secrets and the arguments they hide in; the same ones in every run."""
    rng = random.Random(20_261_122)
    canaries: list[tuple[str, dict[str, object]]] = []

    def word(length: int = 32) -> str:
        return "".join(rng.choices(ALPHABET, k=length))

    for number in range(20):
        secret, key = word(), KEYS[number % len(KEYS)]
        canaries.append((secret, {"metadata": {"request": {"headers": [{key: secret}]}}}))
    for number in range(10):
        secret = word(20)
        canaries.append((secret, {"changes": {KEYS[number % 5]: {"old": None, "new": secret}}}))
    for number in range(30):
        token = PREFIXES[number % len(PREFIXES)]
        secret = token + (word(36).upper() if token == "AKIA" else word(36))
        place = ("description", "entity_label", "user_label")[number % 3]
        canaries.append((secret, {place: f"used {secret}."}))
    for _ in range(15):
        secret = word(16) + "7"
        canaries.append((secret, {"context": {"header": f"Authorization: Bearer {secret}"}}))
    for _ in range(10):
        secret = word(12)
        canaries.append((secret, {"metadata": {"url": f"postgres://app:{secret}@db:5432/app"}}))
    for _ in range(10):
        secret = _card(rng)
        canaries.append((secret, {"entity": ("card", secret), "metadata": {"n": int(secret)}}))
    for _ in range(5):
        secret = word(24)
        canaries.append((secret, {"context": {"session_id": secret}, "external_id": "x"}))
    return canaries


def _card(rng: random.Random) -> str:
    body = "4" + "".join(rng.choices(string.digits, k=14))
    total = sum(sum(divmod(2 * int(d), 10)) for d in body[-1::-2]) + sum(map(int, body[-2::-2]))
    return f"{body}{-total % 10}"


def test_no_canary_reaches_redis(redis_space: RedisSpace) -> None:
    canaries = make_canaries()
    with AuditClient.from_env(
        redis_url=redis_space.url("producer"), key_prefix=redis_space.prefix
    ) as client:
        for secret, arguments in canaries:
            client.log_many([{"action": "canary", **arguments}])  # pyright: ignore[reportArgumentType]
            with client.context(token=secret):
                client.log("canary.context")
        assert client.flush(10)
        stats = client.stats()

    written = redis_space.cli("xrange", f"{redis_space.prefix}:{{0}}:events", "-", "+")
    assert len(canaries) == 100
    assert stats.sent == 200
    assert stats.rejected == {}
    assert written.count("[redacted]") >= 195
    assert [secret for secret, _ in canaries if secret in written] == []
