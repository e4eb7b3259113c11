"""What a request says about its own routing: OpenRouter's and LiteLLM's members, headers, keys' routes, dry runs."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pytest

from proxy import config
from proxy.assemble import front
from proxy.endpoints import Front
from proxy.errors import Refusal
from proxy.explain import explained
from proxy.providers.base import Built, Endpoint
from proxy.providers.catalog import CATALOG
from proxy.providers.compatible import Compatible
from proxy.router import Caller, Plan
from proxy.wire.chat import ChatRequest
from proxy.wire.controls import NONE, Controls, taken
from proxy.wire.request import Request
from tests.scenarios.playbook import call, error, good

CONFIG = """
storage: none
providers:
  one: {base_url: http://one.example/v1, api_key: null}
  two: {base_url: http://two.example/v1, api_key: null}
  openrouter: {api_key: sk-or}
routes:
  chat:
    targets: [one/small, {target: one/large, context_window: 100000, name: large}, {target: two/m, lacks: [vision]}]
    aliases: [gpt-4o]
  spare: {targets: [two/spare]}
  blind: {targets: [{target: two/b, lacks: [vision, tools]}]}
  routed: {targets: [openrouter/x, two/m]}
keys:
  - {name: app, key: sk-app-0123456789abcdef, routes: [spare], tags: [fixed]}
"""


def fronted() -> Front:
    loaded = config.parse(CONFIG, source="test", format="yaml", env={})
    return front(loaded, lambda provider: None, Random(1))  # type: ignore[arg-type, return-value]


def request(**more: Any) -> ChatRequest:
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], **more}
    return ChatRequest.parse(orjson.dumps(body))


def planned(ask: ChatRequest, *headers: tuple[str, str], **caller: Any) -> Plan:
    controls = taken(ask, [(name.encode(), value.encode()) for name, value in headers])
    return fronted().router.planned(ask, Caller(controls=controls, **caller))


def names(**more: Any) -> list[str]:
    return [target.name for target in planned(request(**more)).targets]


def passed(**more: Any) -> dict[str, str]:
    return dict(planned(request(**more)).decision.passed_over)


def refused(ask: ChatRequest, **caller: Any) -> Refusal:
    with pytest.raises(Refusal) as raised:
        planned(ask, **caller)
    return raised.value


def test_a_request_without_controls_costs_nothing_and_stays_as_it_came() -> None:
    ask = request()
    raw = ask.raw
    assert taken(ask, [(b"user-agent", b"x"), (b"traceparent", b"y")]) is NONE
    assert ask.raw is raw


def test_models_are_further_fallbacks_under_any_name() -> None:
    assert names() == ["one/small", "large", "two/m"]
    assert names(models=["spare"]) == ["one/small", "large", "two/m", "two/spare"]
    assert names(fallbacks=[{"model": "spare"}, "one/direct"])[3:] == ["two/spare", "one/direct"]
    assert names(models=["one/small"]) == ["one/small", "large", "two/m"], "the same target by another way"
    assert names(models=["gpt-4o", "chat"]) == ["one/small", "large", "two/m"]
    assert refused(request(models=["nonsense"])).status == 404


def test_a_model_whose_targets_all_fall_away_leaves_it_to_the_next() -> None:
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    ask = request(model="blind", models=["chat"], messages=[{"role": "user", "content": image}])
    assert [target.name for target in planned(ask).targets] == ["one/small", "large"]


def test_order_only_ignore() -> None:
    assert names(provider={"order": ["two"]}) == ["two/m", "one/small", "large"]
    assert names(provider={"order": ["large", "TWO"]}) == ["large", "two/m", "one/small"]
    assert names(provider={"order": ["two"], "allow_fallbacks": False}) == ["two/m"]
    assert names(provider={"only": ["one"]}) == ["one/small", "large"]
    assert names(provider={"only": ["one/large", "two/m"]}) == ["large", "two/m"]
    assert names(provider={"ignore": ["one"]}) == ["two/m"]
    assert names(provider={"allow_fallbacks": False}) == ["one/small"]
    assert passed(provider={"only": ["one"]}) == {"two/m": "not_in_only"}
    assert passed(provider={"ignore": ["large"]}) == {"large": "ignored"}
    assert set(passed(provider={"allow_fallbacks": False}).values()) == {"no_fallbacks"}


def test_wishes_that_leave_nobody_say_so() -> None:
    refusal = refused(request(provider={"only": ["nobody"]}))
    assert (refusal.status, refusal.code) == (404, "no_target")
    assert "one/small: not_in_only" in refusal.message


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": "chat"},
        {"models": [1]},
        {"models": ["x"] * 30},
        {"provider": "one"},
        {"provider": {"order": "one"}},
        {"provider": {"sort": "luck"}},
        {"provider": {"allow_fallbacks": "no"}},
        {"provider": {"max_price": 5}},
        {"provider": {"max_price": {"prompt": "many"}}},
        {"metadata": {"tags": [5]}},
    ],
)
def test_what_is_malformed_is_refused(wrong: dict[str, Any]) -> None:
    refusal = refused(request(**wrong))
    assert refusal.status == 400
    assert refusal.param


def test_a_body_nested_too_deep_to_be_written_again_is_refused() -> None:
    deep = b'{"model":"chat","models":["spare"],"messages":[{"role":"user","content":"x"}],"x":%b1%b}'
    ask = ChatRequest.parse(deep % (b"[" * 400, b"]" * 400))
    assert refused(ask).status == 400


def test_headers() -> None:
    controls = taken(
        request(metadata={"tags": ["b"], "plan": "pro"}),
        [
            (b"x-weighbridge-tags", b"a, c"),
            (b"x-weighbridge-unit", b"u-1"),
            (b"x-weighbridge-no-shadow", b"1"),
            (b"x-weighbridge-dry-run", b"0"),
        ],
    )
    assert controls == Controls(tags=frozenset("abc"), unit="u-1", no_shadow=True)


def test_the_fields_of_a_form_are_left_alone() -> None:
    ask = Request(b"--x\r\ncontent-disposition: form-data", {"model": "m", "models": "a", "provider": "b"})
    raw = ask.raw
    assert taken(ask, [(b"x-weighbridge-unit", b"u")]).unit == "u"
    assert (ask.raw, ask.body["provider"]) == (raw, "b")


def test_a_client_can_never_name_a_host() -> None:
    for value in ("http://169.254.169.254/latest", "//evil.example/x", "one.example"):
        assert refused(request(model=value)).status == 404
        assert refused(request(models=[value])).status == 404
        assert names(provider={"order": [value]}) == ["one/small", "large", "two/m"]


# ---- what reaches the upstream ----------------------------------------------------------------------------------


def built(provider: str, ask: ChatRequest) -> dict[str, Any]:
    row = CATALOG[provider]
    to = Endpoint(provider, "http://x/v1", "m", verbatim=row.verbatim, quirks=row.quirks)
    made: Built = Compatible().build(ask, to)
    found: dict[str, Any] = orjson.loads(made.body)
    return found


def test_they_reach_nobody_but_those_that_route_themselves() -> None:
    ask = request(
        models=["spare"],
        fallbacks=["spare"],
        provider={"order": ["two"], "data_collection": "deny"},
        metadata={"tags": ["x"], "plan": "pro"},
    )
    taken(ask, ())
    for provider in ("openai", "groq", "vllm"):
        assert not built(provider, ask).keys() & {"models", "provider", "fallbacks"}
    assert built("openai", ask)["metadata"] == {"plan": "pro"}
    routed = built("openrouter", ask)
    assert routed["provider"] == {"order": ["two"], "data_collection": "deny"}
    assert not routed.keys() & {"models", "fallbacks"}


def test_one_that_routes_itself_is_not_passed_over_for_names_that_are_its_own_matter() -> None:
    assert names(model="routed", provider={"only": ["azure"]}) == ["openrouter/x"]
    assert names(model="routed", provider={"ignore": ["openrouter"]}) == ["two/m"]


@pytest.mark.parametrize("stream", [True, False])
def test_the_upstream_is_sent_a_clean_request_and_the_answer_is_served(stream: bool) -> None:
    seen = call({"a": [error(500)], "b": [good(stream)]}, stream=stream, ask={"provider": {"order": ["b"]}})
    assert seen.status == 200
    assert seen.tries == ["b"]
    assert b"provider" not in seen.stage.requests[0][1]


@pytest.mark.parametrize("unsupported", ["drop", "skip", "strict"])
def test_wishes_that_only_openrouter_knows_are_told_or_kept(unsupported: str) -> None:
    """`data_collection: deny` unheeded and untold would be a promise broken in silence."""
    ask = {"provider": {"order": ["a"], "data_collection": "deny", "zdr": True}}
    seen = call({"a": [good(False)]}, stream=False, ask=ask, unsupported=unsupported)
    if unsupported == "drop":
        assert (seen.status, seen.headers["x-weighbridge-dropped"]) == (200, "provider.data_collection,provider.zdr")
    else:
        assert (seen.status, seen.error["param"]) == (400, "provider.data_collection")
        assert seen.stage.requests == []


# ---- dry runs and keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_a_dry_run_asks_nobody_and_is_no_exchange(stream: bool) -> None:
    headers = {"x-weighbridge-dry-run": "1"}
    seen = call({"a": [error(500)], "b": [good(stream)]}, stream=stream, headers=headers)
    plan = orjson.loads(seen.body)
    assert seen.status == 200
    assert plan["object"] == "weighbridge.plan"
    assert [(one["target"], one["place"], one["said"]) for one in plan["targets"]] == [
        ("a", 1, "would be asked first"),
        ("b", 2, "would be asked if those before it fail (place 2)"),
    ]
    assert (seen.stage.connects, seen.exchange.id) == ([], "")


def test_a_dry_run_of_a_single_target_and_of_nothing() -> None:
    assert planned(request(model="spare"), ("x-weighbridge-dry-run", "1")).dry
    assert not planned(request(model="spare"), ("x-weighbridge-tags", "x")).dry


def test_a_key_may_ask_for_its_routes_only() -> None:
    gate, router = fronted().gate, fronted().router
    key = gate.client([(b"authorization", b"Bearer sk-app-0123456789abcdef")])
    assert key is not None
    assert (key.routes, key.tags) == (frozenset({"spare"}), frozenset({"fixed"}))
    caller = {"routes": key.routes, "direct": gate.may_go_direct(key)}
    assert [one.name for one in planned(request(model="spare"), **caller).targets] == ["two/spare"]
    for ask in (request(), request(model="gpt-4o"), request(model="spare", models=["chat"])):
        refusal = refused(ask, **caller)
        assert (refusal.status, refusal.code, refusal.should_retry) == (403, "model_not_allowed", False)
    assert refused(request(model="one/x"), **caller).status == 404
    assert router.public_to(key.routes) == ["spare"]
    assert router.public_to(None) == ["blind", "chat", "gpt-4o", "routed", "spare"]


# ---- fitness and words ------------------------------------------------------------------------------------------


def test_what_a_target_lacks_or_cannot_hold() -> None:
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    assert passed(messages=[{"role": "user", "content": image}]) == {"two/m": "lacks_capability"}
    assert passed(messages=[{"role": "user", "content": "word" * 200_000}]) == {"large": "context_window"}
    refusal = refused(request(model="blind", tools=[{"type": "function", "function": {"name": "f"}}]))
    assert (refusal.status, refusal.code) == (400, "unsupported_parameter")
    assert "two/b: lacks_capability" in refusal.message


def test_an_explanation_names_every_target_once_and_says_what_became_of_it() -> None:
    plan = planned(request(provider={"ignore": ["large"]}))
    attempts = [
        {"target": "one/small", "attempt_no": 1, "outcome": "upstream_error", "error_kind": "server_error",
         "status": 500, "e2e_ms": 12.0},
        {"target": "two/m", "attempt_no": 2, "outcome": "ok", "error_kind": None, "status": 200, "e2e_ms": 150.0},
    ]  # fmt: skip
    told = explained(plan.decision, attempts)
    assert {one["target"]: one["said"] for one in told["targets"]} == {
        "one/small": "attempt 1 failed after 12 ms: server_error, status 500",
        "two/m": "attempt 2 answered after 150 ms",
        "large": "passed over: the request's `provider.ignore` names it",
    }
    assert (told["policy"], told["propensity"]) == ("ordered", 1.0)
