"""docs/add-a-policy.md, done: its code is saved, named in its config, and keeps the contract."""

from __future__ import annotations

import re
import sys
from math import sqrt
from pathlib import Path
from random import Random

import pytest

from policies.base import Ask, Candidate
from policies.compose import arrange
from proxy.config import ConfigError, parse
from proxy.config.policy import policy_of

TEXT = (Path(__file__).parents[2] / "docs" / "add-a-policy.md").read_text("utf-8")
(CODE,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
(CONFIG,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)


def test_the_example_is_loaded_with_its_settings_and_keeps_the_contract() -> None:
    policy = policy_of(parse(CONFIG, source="doc", format="yaml", env={}).routes["chat"].policy)
    assert repr(policy) == "Mostly(target='local/large', share=0.8)"
    given = [Candidate("local/small"), Candidate("local/large"), Candidate("local/other")]
    rng, counts = Random(1), [0, 0, 0]
    for _ in range(2000):
        found = arrange(policy, Ask("chat"), given, rng)
        counts[found.order[0].candidate] += 1
        assert sorted(choice.candidate for choice in found.order) == [0, 1, 2]
        assert sum(choice.propensity for choice in found.order) == pytest.approx(1.0)
    for place, chance in ((0, 0.1), (1, 0.8), (2, 0.1)):
        assert abs(counts[place] - 2000 * chance) <= 5 * sqrt(2000 * chance * (1 - chance))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("share: 80%", "target: Field required"),
        ("target: local/large, shore: 80%", "unknown setting"),
        ("target: local/large, share: 20%", "share: Input should be greater than or equal to 0.5"),
        ("target: local/large, share: much", "share: should be a percentage"),
    ],
)
def test_a_wrong_setting_of_a_third_partys_is_named(settings: str, said: str) -> None:
    text = re.sub(r"target: local/large, share: 80%", settings, CONFIG)
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse(text, source="doc", format="yaml", env={})
