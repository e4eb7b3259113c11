"""Durations, sizes, percentages and secrets as people write them."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from pathlib import Path

import pytest
from pydantic import BaseModel

from proxy.config import KeyDigest, Provider, Secret, Timeouts
from proxy.config.problems import Wrong
from proxy.config.values import duration, money, percentage, resolve_secret, size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("600s", 600.0),
        ("250ms", 0.25),
        ("1m30s", 90.0),
        ("2h", 7200.0),
        ("7d", 604800.0),
        ("1.5s", 1.5),
        ("1h 5m", 3900.0),
        (" 30 s ", 30.0),
        ("0", 0.0),
        (0, 0.0),
        ("0s", 0.0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        5,
        5.0,
        "5",
        "",
        " ",
        "s",
        "5 minutes",
        "30s1m",
        "-5s",
        "1e3s",
        "٣s",
        "5sec",
        None,
        True,
        False,
        [],
        "400d",
        "inf",
    ],
)
def test_no_durations(text: object) -> None:
    with pytest.raises(Wrong):
        duration(text)


def test_a_bare_number_is_told_how_to_get_a_unit() -> None:
    with pytest.raises(Wrong) as caught:
        duration(30)
    assert caught.value.hint == "30s for seconds, 30ms for milliseconds"
    with pytest.raises(Wrong) as caught:
        duration("30")
    assert caught.value.hint == "30s for seconds"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("32MiB", 33554432),
        ("10MB", 10_000_000),
        ("512KiB", 524288),
        ("1 GiB", 2**30),
        ("7B", 7),
        ("1.5kb", 1500),
        (0, 0),
    ],
)
def test_sizes(text: object, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", [32, "32", "32M", "MiB", "", "-1MB", None, True, "1e3MB", ["1MB"]])
def test_no_sizes(text: object) -> None:
    with pytest.raises(Wrong):
        size(text)


@pytest.mark.parametrize(
    ("text", "share"), [("5%", 0.05), (0.05, 0.05), ("100 %", 1.0), (1, 1.0), (0, 0.0), ("0.5%", 0.005)]
)
def test_percentages(text: object, share: float) -> None:
    assert percentage(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["5", 5, -0.1, "101%", float("nan"), float("inf"), True, None, "five%", "-1%"])
def test_no_percentages(text: object) -> None:
    with pytest.raises(Wrong):
        percentage(text)


class Holder(BaseModel):
    secret: Secret
    digest: KeyDigest


@pytest.mark.parametrize(
    ("text", "dollars"), [("5 USD", 5), ("$5", 5), ("0.25", 0.25), ("USD 3.5", 3.5), (0, 0), (2.5, 2.5), ("0 USD", 0)]
)
def test_money(text: object, dollars: float) -> None:
    assert money(text) == pytest.approx(dollars)


@pytest.mark.parametrize("text", ["5 EUR", "five", "-1", "", "1e3 USD", -1, True, None, float("nan"), float("inf")])
def test_no_money(text: object) -> None:
    with pytest.raises(Wrong):
        money(text)


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("swordfish", "env:KEY")
    holder = Holder(secret=secret, digest=KeyDigest.of(secret))
    for shown in (repr(secret), str(secret), f"{secret}", repr(holder), str(holder), json.dumps(holder.model_dump())):
        assert "swordfish" not in shown
        assert "********" in shown
    assert "swordfish" not in holder.model_dump_json()
    assert secret.reveal() == "swordfish"
    assert copy.deepcopy(secret) == secret
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_of_a_clients_key_only_the_digest_is_left() -> None:
    digest = KeyDigest.of(Secret("swordfish"))
    assert digest.digest == hashlib.sha256(b"swordfish").digest()
    assert [getattr(digest, name) for name in digest.__slots__] == [digest.digest, "literal"]


@pytest.mark.parametrize(
    ("reference", "value", "origin"),
    [
        ("env:KEY", "from-env", "env:KEY"),
        ("file:key.txt", "from-file", "file:key.txt"),
        ("sk-literal", "sk-literal", "literal"),
        ("vault:x", "vault:x", "literal"),
    ],
)
def test_secrets(tmp_path: Path, reference: str, value: str, origin: str) -> None:
    (tmp_path / "key.txt").write_text("  from-file\n")
    secret = resolve_secret(reference, {"KEY": "from-env"}, tmp_path)
    assert (secret.reveal(), secret.origin) == (value, origin)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("env:MISSING", "the environment variable MISSING is not set"),
        ("env:", "not the name of an environment variable"),
        ("env:A B", "not the name of an environment variable"),
        ("env:EMPTY", "env:EMPTY is empty"),
        ("env:BREAK", "line break"),
        ("env:INSIDE", "line break"),
        ("env:ACCENT", "outside ASCII"),
        ("file:missing.txt", "No such file"),
        ("file:", "cannot be read"),
        ("file:.", "cannot be read"),
        ("file:empty.txt", "is empty"),
        ("file:latin.txt", "not UTF-8"),
        ("file:large.txt", "too large"),
        ("file:a\0b", "not a usable file name"),
        ("file:~nobody-of-that-name/x", "not a usable file name"),
        ("", "is empty"),
        (" ", "is empty"),
        ("a\nb", "line break"),
        ("a\0b", "control character"),
        (5, "should be text"),
        (None, "should be text"),
        ({"a": 1}, "should be text"),
    ],
)
def test_no_secrets(tmp_path: Path, reference: object, message: str) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xfd")
    (tmp_path / "large.txt").write_bytes(b"x" * 70_000)
    env = {"EMPTY": "", "BREAK": "swordfish\n", "INSIDE": "sword\r\nfish", "ACCENT": "swordfïsh"}
    with pytest.raises(Wrong, match=message) as caught:
        resolve_secret(reference, env, tmp_path)
    assert "sword" not in caught.value.message


def test_programs_give_numbers_and_secrets_as_they_are() -> None:
    assert Timeouts(ttft=0.05).ttft == 0.05
    provider = Provider(base_url="http://127.0.0.1:1/v1", api_key=Secret("k"), api_keys=(Secret("l"),))
    assert [secret.reveal() for secret in provider.credentials] == ["k", "l"]
