"""The section `shadow`: what it refuses, and what it makes of what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy import scoring
from proxy.config import Config, ConfigError, parse
from proxy.config import shadow as section

BASE = """
providers: {openai: {api_key: null}, anthropic: {api_key: null}}
routes: {chat: {targets: [openai/a]}}
shadow:
  x: %s
"""


def read(experiment: str) -> Config:
    return parse(BASE % experiment, source="c.yaml", env={}, folder=Path())


def test_the_least_that_must_be_said() -> None:
    x = read("{route: chat, candidate: anthropic/b}").shadow["x"]
    assert (x.mirrored, x.rate, x.budget.per_day, x.budget.total) == (("chat",), 0.05, 5.0, 50.0)
    assert x.primary is None
    assert [guardrail.kind for guardrail in x.guardrails] == ["errors", "ttft", "cost", "validity"]
    assert [guardrail.margin_or(x.margin) for guardrail in x.guardrails] == [0.02, 0.2, 0.1, 0.02]


def test_all_of_it() -> None:
    x = read("""{routes: [chat], candidates: {b: anthropic/b, c: {target: openai/c, system: Be brief.}}, rate: 100%,
        primary: {kind: judge, model: openai/j, margin: 0.1}, guardrails: [{kind: e2e, slo: 2s}],
        budget: {per_day: 1 USD}, only: {tools: true, tags: [a]}}""").shadow["x"]
    assert list(x.arms) == ["b", "c"]
    assert x.primary is not None
    assert (x.primary.margin_or(0.05), x.guardrails[0].margin_or(0.05)) == (0.1, 0.05)


@pytest.mark.parametrize(
    ("experiment", "words"),
    [
        ("{route: chta, candidate: openai/b}", "did you mean 'chat'"),
        ("{candidate: openai/b}", "name a route"),
        ("{route: chat}", "name a candidate"),
        ("{route: chat, candidate: nowhere/b}", "unknown provider 'nowhere'"),
        ("{route: chat, candidate: openai/b, primary: same_words}", "sameness"),
        ("{route: chat, candidate: openai/b, primary: validty}", "did you mean 'validity'"),
        ("{route: chat, candidate: openai/b, primary: judge}", "needs a model"),
        ("{route: chat, candidate: openai/b, primary: regex}", "needs expect"),
        ("{route: chat, candidate: openai/b, guardrails: [{kind: errors, slo: 2s}]}", "takes no slo"),
        ("{route: chat, candidate: openai/b, guardrails: [{kind: judge, model: openai/j}]}", "not a guardrail"),
        ("{route: chat, candidate: openai/b, rate: 2}", "x.rate"),
        ("{route: chat, candidate: openai/b, max_units: 50}", "x.max_units"),
        ("{route: chat, candidate: openai/b, ratee: 0.1}", "ratee"),
    ],
)
def test_what_is_refused(experiment: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read(experiment)


def test_the_metrics_are_the_scorers() -> None:
    assert set(section.REFERENCES) <= set(scoring.REFERENCES)
    assert {*section.GATES} - {*section.REFERENCES} - {"ttft", "e2e", "cost", "feedback"} == set(scoring.ARMS)
    assert set(section.SAMENESS) == {*scoring.SAMENESS, "same_meaning"}
