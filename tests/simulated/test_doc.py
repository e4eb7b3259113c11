"""The page on the simulated upstream says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.simulated import FAULTS, Fault

_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "simulated-upstream.md").read_text()


def test_the_table_lists_exactly_the_faults() -> None:
    rows = _PAGE.split("| fault | takes | what it does | phase | answer |\n|---|---|---|---|---|\n")[1].split("\n\n")[0]
    assert rows.split("\n") == [
        f"| `{name}` | {f'`={kind.takes}`' if kind.takes else ''} | {kind.meaning} | {kind.phase} | "
        f"{'whole' if kind.harmless else 'broken'} |"
        for name, kind in FAULTS.items()
    ]


def test_faults_in_examples_can_be_read() -> None:
    given = re.findall(r"--fault ([a-z]\S+)", _PAGE) + re.findall(r'"((?:http|slow|cut)_[^"]+)"', _PAGE)
    assert len(given) == 6
    for text in given:
        Fault.parse(text)
