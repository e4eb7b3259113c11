"""Against the signatures that AWS publishes in its Signature Version 4 test suite."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.providers.sigv4 import Identity, Signer, timestamp

SUITE = Identity("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
STAMP = "20150830T123600Z"
AT = 1_440_938_160.0


@pytest.mark.parametrize(
    ("method", "path", "more", "body", "signature"),
    [
        ("GET", "/", {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            {},
            b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "POST",
            "/",
            {"content-type": "application/x-www-form-urlencoded"},
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
)
def test_the_published_signatures(method: str, path: str, more: dict[str, str], body: bytes, signature: str) -> None:
    headers = {"host": "example.amazonaws.com", "x-amz-date": STAMP, **more}
    assert Signer(SUITE, "us-east-1", "service").signature(method, path, headers, body, STAMP)[0] == signature


def test_the_headers_of_a_request() -> None:
    headers = dict(Signer(SUITE, "us-east-1", "service").sign("POST", "example.amazonaws.com", "/", b"", AT))
    assert headers == {
        b"x-amz-date": STAMP.encode(),
        b"authorization": b"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        b"SignedHeaders=host;x-amz-date, "
        b"Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    }


def test_a_session_token_is_sent_and_signed() -> None:
    signer = Signer(SUITE._replace(token="AQoDYXdzEPT"), "us-east-1", "service")
    headers = dict(signer.sign("POST", "example.amazonaws.com", "/", b"", AT))
    assert headers[b"x-amz-security-token"] == b"AQoDYXdzEPT"
    assert b"SignedHeaders=host;x-amz-date;x-amz-security-token, " in headers[b"authorization"]


@given(st.integers(0, 4_102_444_800))
def test_the_calendar(at: int) -> None:
    assert timestamp(at + 0.5) == datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")


def test_the_key_changes_with_the_day() -> None:
    signer = Signer(SUITE, "us-east-1", "service")
    first = signer.sign("POST", "a", "/", b"", AT)
    assert signer.sign("POST", "a", "/", b"", AT + 86_400) != first
    assert signer.sign("POST", "a", "/", b"", AT) == first


@pytest.mark.parametrize(
    ("credential", "identity"),
    [
        ("AKIAIOSFODNN7EXAMPLE:secret/+x", Identity("AKIAIOSFODNN7EXAMPLE", "secret/+x")),
        ("ASIAIOSFODNN7EXAMPLE:secret:to:ken==", Identity("ASIAIOSFODNN7EXAMPLE", "secret", "to:ken==")),
        ("ABSKQmVkcm9ja0FQSUtleS1leGFtcGxl", None),
        ("bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t", None),
        ("AKIAIOSFODNN7EXAMPLE:", None),
        ("", None),
    ],
)
def test_reading_a_credential(credential: str, identity: Identity | None) -> None:
    assert Identity.read(credential) == identity
