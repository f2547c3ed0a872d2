"""Dead letters are unreadable at rest, recognisable by digest, and open with their key only."""

import pytest

from audit_platform.events.dead_letter import DeadLetterVault

RAW = b'{"action":"user.suspend","user_id":"\xff\x00"}'


def test_sealed_bytes_open_to_the_same_bytes() -> None:
    vault = DeadLetterVault(bytes(32))

    sealed = vault.seal(RAW)

    assert vault.open(sealed.ciphertext) == RAW
    assert b"suspend" not in sealed.ciphertext


def test_digest_repeats_for_equal_bytes_and_the_ciphertext_never_does() -> None:
    vault = DeadLetterVault(bytes(32))

    first, second, other = vault.seal(RAW), vault.seal(RAW), vault.seal(RAW + b" ")

    assert first.digest == second.digest != other.digest
    assert first.ciphertext != second.ciphertext


def test_another_key_gives_another_digest_and_opens_nothing() -> None:
    sealed = DeadLetterVault(bytes(32)).seal(RAW)
    stranger = DeadLetterVault(b"x" * 32)

    assert stranger.seal(RAW).digest != sealed.digest
    assert stranger.key_id != sealed.key_id
    with pytest.raises(ValueError, match="another key"):
        stranger.open(sealed.ciphertext)


def test_changed_bytes_are_noticed() -> None:
    vault = DeadLetterVault(bytes(32))
    ciphertext = bytearray(vault.seal(RAW).ciphertext)
    ciphertext[20] ^= 1

    with pytest.raises(ValueError, match="changed"):
        vault.open(bytes(ciphertext))


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        DeadLetterVault(bytes(31))
