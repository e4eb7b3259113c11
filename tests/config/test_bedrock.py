"""What the bedrock dialect needs of a config: a region, and a key or a pair of keys."""

from __future__ import annotations

import pytest

from proxy.config import Config, ConfigError, from_environment, parse

BEARER = {"AWS_BEARER_TOKEN_BEDROCK": "ABSK-key"}
PAIR = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret/x"}


def read(text: str, env: dict[str, str]) -> Config:
    return parse(text, source="test", env=env)


def problems(text: str, env: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, env)
    return str(caught.value)


@pytest.mark.parametrize(
    ("section", "env", "region", "address"),
    [
        ("{region: eu-central-1}", {}, "eu-central-1", "https://bedrock-runtime.eu-central-1.amazonaws.com"),
        ("{}", {"AWS_REGION": "us-east-1"}, "us-east-1", "https://bedrock-runtime.us-east-1.amazonaws.com"),
        ("{}", {"AWS_DEFAULT_REGION": "us-west-2"}, "us-west-2", "https://bedrock-runtime.us-west-2.amazonaws.com"),
        (
            "{region: eu-west-1}",
            {"AWS_REGION": "us-east-1"},
            "eu-west-1",
            "https://bedrock-runtime.eu-west-1.amazonaws.com",
        ),
        ("{region: cn-north-1}", {}, "cn-north-1", "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"),
        (
            "{base_url: https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com}",
            {},
            "us-gov-west-1",
            "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
        ),
        ("{base_url: 'http://127.0.0.1:9000', region: x-1}", {}, "x-1", "http://127.0.0.1:9000"),
    ],
)
def test_the_region_and_the_address(section: str, env: dict[str, str], region: str, address: str) -> None:
    provider = read(f"providers: {{bedrock: {section}}}", BEARER | env).providers["bedrock"]
    assert (provider.region, provider.base_url, provider.verbatim) == (region, address, False)


def test_without_a_region() -> None:
    assert "bedrock needs a region" in problems("providers: {bedrock: {}}", BEARER)
    assert "bedrock needs a region" in problems("providers: {mine: {dialect: bedrock, api_key: null}}", {})
    assert "'bedrock' has no region" in problems("routes: {chat: {targets: [bedrock/m]}}", BEARER)
    assert "not a name that can stand in an address" in problems("providers: {bedrock: {region: a/b}}", BEARER)


@pytest.mark.parametrize(
    ("env", "key"),
    [
        (BEARER, "ABSK-key"),
        (PAIR, "AKIAIOSFODNN7EXAMPLE:secret/x"),
        (PAIR | {"AWS_SESSION_TOKEN": "to=ken"}, "AKIAIOSFODNN7EXAMPLE:secret/x:to=ken"),
        (PAIR | BEARER, "ABSK-key"),
    ],
)
def test_keys_from_the_environment(env: dict[str, str], key: str) -> None:
    env = env | {"AWS_REGION": "us-east-1"}
    for config in (
        read("providers: {bedrock: {}}", env),
        read("routes: {chat: {targets: [bedrock/m]}}", env),
        from_environment(env),
    ):
        (secret,) = config.providers["bedrock"].credentials
        assert secret.reveal() == key
        assert config.warnings == ()


def test_half_a_pair_is_no_key() -> None:
    env = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_REGION": "us-east-1"}
    assert "'bedrock' has no key" in problems("routes: {chat: {targets: [bedrock/m]}}", env)
    assert "AWS_BEARER_TOKEN_BEDROCK is not set" in problems("providers: {bedrock: {}}", env)


def test_a_pair_of_ones_own() -> None:
    text = "providers: {bedrock: {region: eu-central-1, api_keys: ['env:A:B', 'env:C']}}"
    one, other = read(text, {"A": "id", "B": "secret", "C": "ABSK"}).providers["bedrock"].credentials
    assert (one.reveal(), one.origin, other.reveal()) == ("id:secret", "env:A:B", "ABSK")
    assert "the environment variable B is not set" in problems(text, {"A": "id", "C": "ABSK"})


def test_an_environment_without_a_region_serves_the_others() -> None:
    config = from_environment(BEARER | {"OPENAI_API_KEY": "sk"})
    assert set(config.providers) == {"openai"}
    assert "bedrock has no region" in config.warnings[0]
    assert from_environment(PAIR | {"OPENAI_API_KEY": "sk"}).warnings == ()


def test_a_region_means_nothing_to_others() -> None:
    config = read("providers: {openai: {region: eu-central-1, api_key: env:A}}", {"A": "x"})
    assert config.warnings == ("providers.openai.region: has no effect with the dialect 'openai'",)
