"""What a target cannot be asked: left out and told, passed to another target, or refused, as the route says."""

from __future__ import annotations

import pytest

from policies.verdict import Kind
from proxy.errors import Refusal
from proxy.providers.base import Built, Endpoint
from proxy.providers.openai import OpenAI
from proxy.wire.chat import ChatRequest
from tests.scenarios.playbook import call, good


class Picky(OpenAI):
    """A dialect that takes no seed, and cannot say `n`."""

    def build(self, ask: ChatRequest, to: Endpoint) -> Built:
        if to.provider == "a" and ask.n > 1:
            raise Refusal(400, "`n` must be 1 for this provider.", param="n", code="unsupported_parameter")
        built = super().build(ask, to)
        return built._replace(dropped=("seed",)) if to.provider == "a" and "seed" in ask.body else built


PLAYS = {"a": [good(False)], "b": [good(False)]}


def test_a_harmless_hint_is_left_out_and_the_client_is_told() -> None:
    seen = call(PLAYS, stream=False, ask={"seed": 7}, provider=Picky())
    assert (seen.tries, seen.status) == (["a"], 200)
    assert seen.headers["x-weighbridge-dropped"] == "seed"
    assert seen.exchange.attempts[0].dropped == ("seed",)


def test_nothing_is_told_where_nothing_was_left_out() -> None:
    assert "x-weighbridge-dropped" not in call(PLAYS, stream=False, provider=Picky()).headers


def test_skip_asks_a_target_that_takes_it() -> None:
    seen = call(PLAYS, stream=False, ask={"seed": 7}, provider=Picky(), unsupported="skip")
    assert (seen.tries, seen.kinds, seen.status) == (["a", "b"], [Kind.UNSUPPORTED, Kind.OK], 200)
    assert [name for name, _ in seen.stage.requests] == ["b"]


def test_strict_refuses_and_names_parameter_and_target() -> None:
    seen = call(PLAYS, stream=False, ask={"seed": 7}, provider=Picky(), unsupported="strict")
    assert (seen.tries, seen.status) == (["a"], 400)
    assert (seen.error["param"], seen.error["code"]) == ("seed", "unsupported_parameter")
    assert "target a" in seen.error["message"]
    assert seen.stage.requests == []


@pytest.mark.parametrize("unsupported", ["drop", "skip", "strict"])
def test_what_cannot_be_said_at_all_goes_elsewhere(unsupported: str) -> None:
    seen = call(PLAYS, stream=False, ask={"n": 2}, provider=Picky(), unsupported=unsupported)
    assert (seen.tries, seen.status) == (["a", "b"], 200)


def test_what_nobody_can_be_asked_is_the_clients_to_mend() -> None:
    seen = call({"a": [good(False)]}, stream=False, ask={"n": 2}, provider=Picky())
    assert (seen.status, seen.error["param"]) == (400, "n")
    assert seen.exchange.outcome == "client_error"
