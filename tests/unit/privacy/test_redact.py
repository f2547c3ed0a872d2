"""Secrets are found by key name and by pattern; the rest stays; hostile values are refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_platform.errors import InvalidEvent
from audit_platform.privacy.key_names import normalise_key
from audit_platform.privacy.patterns import REDACTED, has_card_shape, is_suspicious, redact_text
from audit_platform.privacy.redact import Redactor

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow+abc/def=\n-----END RSA PRIVATE KEY-----"

SECRET_TEXTS = {
    "visa": ("card 4111 1111 1111 1111 declined", "4111 1111 1111 1111"),
    "visa with dashes": ("4111-1111-1111-1111", "4111-1111-1111-1111"),
    "american express": ("paid with 378282246310005", "378282246310005"),
    "mastercard 2-series": ("2223003122003222", "2223003122003222"),
    "jwt": (f"sent {JWT} to api", JWT),
    "stripe": ("key sk_live_4eC39HqLyjWDarjtT1zdp7dc used", "sk_live_4eC39HqLyjWDarjtT1zdp7dc"),
    "github": ("ghp_" + "a1B2" * 9, "ghp_" + "a1B2" * 9),
    "slack": ("xoxb-123456789012-abcdefGHIJKL", "xoxb-123456789012-abcdefGHIJKL"),
    "aws": ("id AKIAIOSFODNN7EXAMPLE.", "AKIAIOSFODNN7EXAMPLE"),
    "google": ("AIza" + "Sy_-9" * 7, "AIza" + "Sy_-9" * 7),
    "own api key": ("aud_live_k1_" + "Ab3" * 10, "Ab3" * 10),
    "bearer": ("Authorization: Bearer mF_9.B5f-4.1JqM", "mF_9.B5f-4.1JqM"),
    "bare bearer": ("curl with bearer mF_9.B5f-4.1JqM", "mF_9.B5f-4.1JqM"),
    "basic": ("Basic QWxhZGRpbjpvcGVuc2VzYW1l", "QWxhZGRpbjpvcGVuc2VzYW1l"),
    "header": ("authorization=Token s3cr3t-s3cr3t", "s3cr3t-s3cr3t"),
    "cookie": ("Cookie: sid=s3cr3t; theme=dark", "s3cr3t"),
    "pem": (f"key {PEM} end", "MIIEow+abc/def="),
    "cut pem": ("-----BEGIN PRIVATE KEY-----\nMIIEow", "MIIEow"),
    "url": ("connect postgres://app:hunter2@db:5432/x", "hunter2"),
    "url without user": ("redis://:hunter2@cache:6379/0", "hunter2"),
    "query": ("GET /?page=2&access_token=hunter2-3&x=1", "hunter2-3"),
    "assignment": ("set password=hunter2 now", "hunter2"),
    "colon": ("password:hunter2", "hunter2"),
    "json in a text": ('body {"api_key": "hunter2 and more"}', "hunter2 and more"),
}

CLEAN_TEXTS = [
    "order A-1093 was paid",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0",
    "12345678-1234-4234-8234-123456789012",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "1700000000000000",
    "4111 1111 1111 1112",
    "2026-11-22T19:07:39.123456Z",
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db",
    "basic authentication was turned off",
    "https://example.org/orders?page=2",
    "token expired",
    "password changed",
    "mailto:anna@example.org",
]


@pytest.fixture
def redactor() -> Redactor:
    return Redactor(secret_keys=["Kundennummer"])


@pytest.mark.parametrize(("text", "secret"), SECRET_TEXTS.values(), ids=SECRET_TEXTS.keys())
def test_secret_inside_text_is_replaced(text: str, secret: str) -> None:
    cleaned = redact_text(text)

    assert secret not in cleaned
    assert REDACTED in cleaned


@pytest.mark.parametrize("text", CLEAN_TEXTS)
def test_text_without_secret_stays(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "Password2",
        "user_password",
        "API-Key",
        "x-api-key",
        "clientSecret",
        "refresh_token",
        "Authorization",
        "Set-Cookie",
        "private_key",
        "aws_secret_access_key",
        "cvv",
        "kunden-nummer",
    ],
)
def test_value_below_secret_key_is_masked(redactor: Redactor, key: str) -> None:
    assert redactor.redact({"a": [{key: "hunter2"}]}, field="metadata") == {"a": [{key: REDACTED}]}


@pytest.mark.parametrize(
    "key", ["token_type", "max_tokens", "passenger", "keyboard", "author", "side"]
)
def test_value_below_harmless_key_stays(redactor: Redactor, key: str) -> None:
    value = {key: "plain"}

    assert redactor.redact(value, field="metadata") is value


def test_masked_change_keeps_its_shape_and_flags(redactor: Redactor) -> None:
    changes = {"password": {"old": "a", "new": "b"}, "token": None, "secret": [True, 7, {"k": "v"}]}

    assert redactor.redact(changes, field="changes") == {
        "password": {"old": REDACTED, "new": REDACTED},
        "token": None,
        "secret": [True, REDACTED, {"k": REDACTED}],
    }


def test_session_id_becomes_an_equal_fingerprint_for_equal_ids(redactor: Redactor) -> None:
    first = redactor.redact({"session_id": "s-1"}, field="context")
    again = redactor.redact({"sessionId": "s-1", "sid": "s-2"}, field="context")

    assert isinstance(first, dict)
    assert isinstance(again, dict)
    assert first["session_id"] == again["sessionId"] != again["sid"]
    assert first["session_id"].startswith("sha256:")
    assert redactor.redact(first, field="context") == first


def test_card_number_as_a_number_is_masked(redactor: Redactor) -> None:
    value = {"number": 4111111111111111, "order": 4111111111111112, "list": [378282246310005]}

    assert redactor.redact(value, field="metadata") == {
        "number": REDACTED,
        "order": 4111111111111112,
        "list": [REDACTED],
    }


def test_secret_as_a_key_is_replaced(redactor: Redactor) -> None:
    assert redactor.redact({JWT: 1}, field="metadata") == {REDACTED: 1}


def test_verdicts_do_not_change_when_repeated(redactor: Redactor) -> None:
    for _ in range(3):
        assert redactor.redact({"note": JWT}, field="metadata") == {"note": REDACTED}
        assert redactor.is_clean({"note": "see below"}, field="metadata")


def test_deep_value_is_refused(redactor: Redactor) -> None:
    deep: object = "leaf"
    for _ in range(10_000):
        deep = [deep]

    with pytest.raises(InvalidEvent, match="nested deeper than 32"):
        redactor.redact(deep, field="metadata")


def test_cyclic_value_is_refused(redactor: Redactor) -> None:
    cycle: dict[str, object] = {}
    cycle["self"] = [cycle, cycle]

    with pytest.raises(InvalidEvent, match="contains itself"):
        redactor.redact(cycle, field="metadata")


def test_value_that_shares_lists_exponentially_is_refused_quickly(redactor: Redactor) -> None:
    shared: list[object] = ["x"] * 10
    for _ in range(20):
        shared = [shared] * 10

    with pytest.raises(InvalidEvent, match="larger than"):
        redactor.redact(shared, field="metadata")


def test_huge_text_is_refused(redactor: Redactor) -> None:
    with pytest.raises(InvalidEvent, match="larger than"):
        redactor.redact({"blob": "x" * 70_000}, field="metadata")


def test_too_many_keys_are_refused(redactor: Redactor) -> None:
    with pytest.raises(InvalidEvent, match="more than 256 keys"):
        redactor.redact([{str(number): 1} for number in range(257)], field="metadata")


def test_many_distinct_keys_do_not_grow_memory_without_bound() -> None:
    redactor = Redactor()

    for number in range(10_000):
        redactor.is_clean({f"key-{number}": f"text number {number}"}, field="metadata")

    assert len(redactor._clean_keys) <= 4_096
    assert len(redactor._clean_texts) <= 4_096


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=20,
)
FRAGMENTS = st.sampled_from(
    [
        *(text for text, _ in SECRET_TEXTS.values()),
        *CLEAN_TEXTS,
        "eyJ",
        "sk-",
        "://",
        "@",
        "=",
        ": ",
        '"',
        "'",
        "\\",
        "\n",
        "bearer ",
        "Basic ",
        "token",
        "password",
        "4111111111111111",
        "-",
        "%",
    ]
)
MIXED_TEXT = st.lists(FRAGMENTS | st.text(max_size=6), max_size=6).map("".join)


@given(MIXED_TEXT)
@settings(max_examples=400)
def test_scan_reports_every_text_that_redaction_would_change(text: str) -> None:
    if redact_text(text) != text:
        assert is_suspicious(text)


@given(JSON)
@settings(max_examples=200)
def test_redaction_keeps_json_types_and_changes_nothing_the_second_time(value: object) -> None:
    redactor = Redactor()

    once = redactor.redact(value, field="metadata")

    json.dumps(once)
    assert redactor.redact(once, field="metadata") == once


NESTED_SECRETS = st.recursive(
    st.sampled_from(SECRET_TEXTS["jwt"]),
    lambda inner: (
        st.lists(inner, min_size=1) | st.dictionaries(st.sampled_from(["a", "note"]), inner)
    ),
    max_leaves=8,
)


@given(NESTED_SECRETS)
def test_no_nesting_hides_a_secret(value: object) -> None:
    assert JWT not in json.dumps(Redactor().redact(value, field="metadata"))


@given(st.integers(min_value=0, max_value=10**15 - 1))
def test_every_visa_number_with_a_right_check_digit_is_a_card(body: int) -> None:
    digits = f"4{body:014d}"[:15]
    total = sum(sum(divmod(2 * int(d), 10)) for d in digits[-1::-2]) + sum(map(int, digits[-2::-2]))
    check = -total % 10

    assert has_card_shape(f"{digits}{check}")
    assert not has_card_shape(f"{digits}{(check + 1) % 10}")


@pytest.mark.parametrize(("key", "name"), [("API-Key_2", "apikey"), ("X Auth.Token", "xauthtoken")])
def test_key_names_are_compared_without_spelling(key: str, name: str) -> None:
    assert normalise_key(key) == name
