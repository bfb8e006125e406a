from __future__ import annotations

import pytest

from ra.web.api_keys import MAX_KEY_CHARACTERS, ApiKeys, digest

SERVER_KEY = b"k" * 32


@pytest.fixture
def keys() -> ApiKeys:
    return ApiKeys(
        SERVER_KEY, {"monitoring": digest(SERVER_KEY, "first key"), "helpdesk": digest(SERVER_KEY, "second")}
    )


def test_digest_is_hmac_sha_256_of_the_key() -> None:
    # RFC 4231 §4.3
    assert digest(b"Jefe", "what do ya want for nothing?") == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


@pytest.mark.parametrize(("api_key", "label"), [("first key", "monitoring"), ("second", "helpdesk")])
def test_a_known_key_tells_its_label(keys: ApiKeys, api_key: str, label: str) -> None:
    assert label == keys.label_of(api_key)


@pytest.mark.parametrize(
    "api_key", ["", "first", "first key ", digest(SERVER_KEY, "first key"), "é", "x" * (MAX_KEY_CHARACTERS + 1)]
)
def test_any_other_key_is_nobodys(keys: ApiKeys, api_key: str) -> None:
    assert keys.label_of(api_key) is None


def test_without_keys_everybody_is_a_stranger() -> None:
    assert ApiKeys(b"", {}).label_of("anything") is None


def test_a_digest_made_under_another_server_key_is_nobodys() -> None:
    keys = ApiKeys(SERVER_KEY, {"monitoring": digest(b"another", "first key")})

    assert keys.label_of("first key") is None
