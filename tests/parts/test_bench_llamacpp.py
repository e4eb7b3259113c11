"""A suite with a real inference server beside a simulated provider: rows, counts and perplexities agree."""

from __future__ import annotations

import asyncio
import json
from math import exp
from pathlib import Path

import pytest

from proxy.bench import data
from proxy.bench.report import report
from proxy.bench.results import Run
from proxy.bench.runner import Runner, Spend
from proxy.bench.scorers import Scorers
from proxy.bench.session import Session
from proxy.bench.suite import Suite, parse
from proxy.config import Config
from proxy.config.load import parse as parse_config
from proxy.config.problems import ConfigError
from proxy.simulated import Simulated
from tests.processes import Running, rows

pytestmark = pytest.mark.parts

PROMPTS = 12


def suite(**task: object) -> Suite:
    cases = [{"id": str(n), "prompt": f"Axle {n} weighs {n} + {n} t."} for n in range(PROMPTS)]
    whole = {
        "name": "local",
        "targets": ["llama/tiny", "other/m"],
        "tasks": {"t": {"data": cases, "scorers": ["probability", "truncation"], "success": 0.0, **task}},
        "sampling": {"temperature": 0, "max_tokens": 8, "logprobs": True},
        "repeats": 2,
        "concurrency": 2,
    }
    return parse(json.dumps(whole))


def config(llamacpp: Running, other: Simulated, folder: Path) -> Config:
    providers = {
        "llama": {"dialect": "openai", "base_url": f"{llamacpp.base_url}/v1", "api_key": None},
        "other": {"dialect": "openai", "base_url": other.base_url, "api_key": None},
    }
    whole = {"storage": f"sqlite:///{folder / 'exchanges.db'}", "providers": providers}
    return parse_config(json.dumps(whole), source="test", format="json")


async def asked(llamacpp: Running, plan: Suite, folder: Path) -> Run:
    async with Simulated("openai", tokens="4") as other:
        session = Session(config(llamacpp, other, folder), plan)
        cases = data.load(plan)
        run = Run(folder / "run")
        run.begin({"kind": "run", "finished": "now"})
        async with session:
            await session.check(cases)
            score = Scorers(plan, session.words)
            assert await Runner(plan, cases, session, run, score, Spend(None, lambda label, body: None)).run()
        assert other.stats.requests == PROMPTS * 2
    return run


def test_rows_counts_and_perplexity_of_its_own_answers(llamacpp: Running, tmp_path: Path) -> None:
    plan = suite()
    run = asyncio.run(asked(llamacpp, plan, tmp_path))
    made = report(plan, run.manifest, run.rows())
    for one in made.figures:
        mine = [row for row in run.rows() if row["target"] == one.target]
        assert one.requests == len(mine) == PROMPTS * 2
        assert {row["outcome"] for row in mine} == {"ok"}
        stored = rows(tmp_path, f"SELECT id, output_tokens FROM v_exchanges WHERE target = '{one.target}'")  # noqa: S608
        assert {row["id"]: row["output_tokens"] for row in stored} == {
            row["exchange_id"]: row["output_tokens"] for row in mine
        }
        assert one.perplexity["t"].value is not None
    llama, other = made.figures
    # The tiny model's weights are random: it hesitates. The simulated one says what it was told to.
    assert (llama.perplexity["t"].value or 0.0) > 1.5
    assert (other.perplexity["t"].value or 0.0) < 1.2


def test_its_perplexity_is_that_of_the_log_probabilities_it_gives(llamacpp: Running, tmp_path: Path) -> None:
    plan = suite()
    run = asyncio.run(asked(llamacpp, plan, tmp_path))
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Axle 3 weighs 3 + 3 t."}], **plan.sampling}
    tokens = llamacpp.ask("/v1/chat/completions", body).json()["choices"][0]["logprobs"]["content"]
    expected = exp(sum(token["logprob"] for token in tokens) / len(tokens))
    (row, _) = [row for row in run.rows() if (row["target"], row["case"]) == ("llama/tiny", "3")]
    assert row["scores"]["probability"] == pytest.approx(expected, rel=1e-3)


def test_the_text_itself_it_cannot_weigh_and_that_is_said(llamacpp: Running, tmp_path: Path) -> None:
    plan = suite(ask="text", scorers=["probability"])
    with pytest.raises(ConfigError) as caught:
        asyncio.run(asked(llamacpp, plan, tmp_path))
    assert "llama/tiny does not tell the probabilities of a text" in str(caught.value)
    assert "other/m" not in str(caught.value)
