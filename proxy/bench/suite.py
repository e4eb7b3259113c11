"""The suite: what is asked of whom, how it is judged, and what would be good enough. One file under version control.

JSON, YAML or TOML. Like the config, it is one frozen model: what a file may say is what the program reads. Durations
are seconds, money is USD, shares lie in [0, 1].
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import Field, PrivateAttr, ValidationError, model_validator

from proxy.config.explain import is_not_text, problem
from proxy.config.fields import (
    Duration,
    EmptyIsDefault,
    EmptyIsNone,
    Flag,
    Limit,
    Money,
    Name,
    NotEmpty,
    Number,
    Params,
    Share,
    Text,
    Whole,
)
from proxy.config.known import is_loopback
from proxy.config.problems import ConfigError, Problem, Wrong, did_you_mean
from proxy.config.section import Section, Shorthand
from proxy.config.source import FORMATS, MOST_BYTES, read, too_large
from proxy.config.values import Secret

Metric = Literal["accuracy", "latency", "cost", "safety"]
METRICS: tuple[Metric, ...] = ("accuracy", "latency", "cost", "safety")
"""What weights may name. Accuracy and safety are mean scores of the tasks of that aim; latency is the quantile of
`latency`; cost is the spend per successful task."""
GateName = Literal["accuracy", "latency", "cost", "safety", "bias"]
"""What gates may name. Bias is the difference of the score between groups of the same cases (`tasks.NAME.groups`)."""


class Target(Shorthand):
    """A route or `provider/model` of the config, or the address of any OpenAI-compatible server."""

    target: Text | None = Field(default=None, description="A route of the config, or provider/model.")
    name: Name | None = Field(default=None, description="How reports call it; by default what it asks for.")
    url: Text | None = Field(default=None, description="Base URL of a server that the config does not have.")
    model: Text | None = Field(default=None, description="The model to ask for at `url`.")
    api_key: Secret | None = Field(default=None, description="The key for `url` (env:NAME).")
    params: Params = Field(default_factory=dict, description="Parameters for this target alone, said in the report.")

    @model_validator(mode="after")
    def _one_way(self) -> Target:
        if (self.target is None) == (self.url is None):
            raise Wrong("a target needs either `target` (a route or provider/model) or `url` and `model`")
        if self.url is not None and self.model is None:
            raise Wrong("a target with `url` needs `model`")
        return self

    @property
    def label(self) -> str:
        return self.name or self.target or str(self.model)


class Scorer(Shorthand):
    """One way to judge an answer; `kind` as in `proxy.scoring`, or `module:function`."""

    kind: Text = Field(description="exact, numeric, regex, json_schema, judge, ... or module:function.")
    field: Text | None = Field(default=None, description="The field of the case that holds what is expected.")
    options: dict[str, Any] = Field(default_factory=dict, description="What this kind of scorer takes.")


class Template(Section):
    """Messages made from the fields of a case: `{field}` stands for its text, `{{` for a brace."""

    system: Text | None = Field(default=None, description="System message.")
    user: Text = Field(default="{prompt}", description="User message.")


class Production(Section):
    """Requests that were served and kept by `capture`, drawn by route, size and tools, and weighed back to the mix."""

    route: Text | None = Field(default=None, description="Only requests of this route.")
    since: Limit = Field(default=7 * 86400.0, description="How far back.")
    until: Duration = Field(default=0.0, description="Not those of the last so long.")
    tools: Flag | None = Field(default=None, description="Only requests with tools, or only those without.")
    shortest: Whole = Field(default=0, ge=0, description="Least size of the messages, in characters.")
    longest: Whole = Field(default=1_000_000, ge=1, description="Most size of the messages, in characters.")
    limit: Whole = Field(default=200, ge=1, le=100_000, description="How many are drawn.")


class Task(Section):
    """A set of cases, how they are put, and how the answers are judged."""

    data: Text | Annotated[tuple[dict[str, Any], ...], NotEmpty] | None = Field(
        default=None, description="A .jsonl, .csv or .parquet file beside the suite, or the cases themselves."
    )
    production: Production | None = Field(default=None, description="Captured requests as cases, instead of `data`.")
    aim: Literal["accuracy", "safety"] = Field(default="accuracy", description="Which score the task counts for.")
    ask: Literal["chat", "text"] = Field(
        default="chat", description="A chat; or the user's text itself, for the probability of its tokens."
    )
    template: Annotated[Template, EmptyIsDefault] = Template()
    scorers: Annotated[tuple[Scorer, ...], NotEmpty] = Field(
        description="The first one decides success; the others are reported."
    )
    success: Share = Field(default=1.0, description="Least score of the first scorer that counts as success.")
    cluster: Text | None = Field(
        default=None, description="A field whose value marks cases that share a source and are not independent."
    )
    groups: Text | None = Field(
        default=None, description="A field that tells the cases of one cluster apart: who is spoken of, say."
    )
    params: Params = Field(default_factory=dict, description="Parameters of this task (tools, response_format).")
    limit: Whole | None = Field(default=None, gt=0, description="Take only the first so many cases.")

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        if (self.data is None) == (self.production is None):
            raise Wrong("a task needs either `data` or `production`")
        if self.production is not None and self.scorers[0].field is not None:
            raise Wrong(
                "agreement with the answer that was served is sameness, not success",
                "let a scorer that needs no reference come first (errors, validity, refusal, judge), this one after",
            )
        if self.groups is not None and self.cluster is None:
            raise Wrong("`groups` compares the cases of one pair: name the field of the pair with `cluster`")
        if self.ask == "text" and self.scorers[0].kind != "probability":
            raise Wrong("`ask: text` brings no answer back, only probabilities: its first scorer is `probability`")
        if self.ask == "text" and self.template.system is not None:
            raise Wrong("`ask: text` sends a text as it is: there is no system message")
        return self


class Anchor(Section):
    """Fixed ends of a scale, so that adding a target changes no other's score."""

    best: Number = Field(description="Scores 1: seconds for latency, USD per success for cost.")
    worst: Number = Field(description="Scores 0.")

    @model_validator(mode="after")
    def _apart(self) -> Anchor:
        if not 0 <= self.best < self.worst:
            raise Wrong("`best` must be less than `worst`: lower is better for latency and cost")
        return self


class Anchors(Section):
    latency: Anchor = Anchor(best=0.5, worst=10.0)
    cost: Anchor = Anchor(best=0.0, worst=0.05)


class Slo(Section):
    ttft: Limit | None = Field(default=None, description="First content, from when the request was due.")
    e2e: Limit | None = Field(default=None, description="The whole answer, from when the request was due.")


class Latency(Section):
    """Which latency the decision is about."""

    metric: Literal["e2e", "ttft"] = Field(default="e2e", description="The whole answer, or its first content.")
    quantile: Number = Field(default=0.95, gt=0, lt=1, description="Which quantile of it.")


class Gate(Section):
    """How much worse than the baseline is still no regression."""

    margin: Number = Field(ge=0, description="Absolute for accuracy, safety and bias (0.03 = 3 points), else relative.")


class Drill(Section):
    """A fault of a simulated upstream in the middle of the load, to see what failover makes of it."""

    control: Text = Field(description="The simulated upstream's /control, on this machine.")
    fault: Text = Field(default="refuse", description="As in docs/simulated-upstream.md.")
    at: Duration = Field(default=20.0, description="When it begins, from the start of the load.")
    seconds: Limit = Field(default=20.0, alias="for", description="How long it lasts.")

    @model_validator(mode="after")
    def _on_this_machine(self) -> Drill:
        parts = urlsplit(self.control)
        if parts.scheme != "http" or not is_loopback(parts.hostname or ""):
            raise Wrong("`control` is on this machine: a simulated upstream, say http://127.0.0.1:9001/control")
        return self


class Search(Section):
    """Looks for the highest rate of arrivals at which enough requests meet the service levels of `slo`."""

    share: Share = Field(default=0.99, description="Share of the requests that must meet every service level.")
    highest: Number = Field(default=1000.0, gt=0, description="Requests a second that are not passed.")


class Recorded(Section):
    """Arrivals as they were in the store."""

    route: Text = Field(description="The route whose requests are meant.")
    since: Limit = Field(default=3600.0, description="How far back.")
    speed: Number = Field(default=1.0, gt=0, description="2 plays an hour in half an hour.")


class Load(Section):
    """How `bench load` asks. One of `users`, `ramp`, `rate`, `search` and `recorded`."""

    users: Whole | None = Field(default=None, ge=1, le=10_000, description="Steady users, each asking again at once.")
    ramp: tuple[Whole, Whole] | None = Field(default=None, description="Users from the first number to the second.")
    steps: Whole = Field(default=10, ge=2, le=100, description="Steps of the ramp.")
    rate: Number | None = Field(default=None, gt=0, description="Arrivals a second, whatever became of those before.")
    arrivals: Literal["poisson", "constant"] = Field(default="poisson", description="How they are spaced.")
    search: Search | None = Field(default=None, description="Look for the highest rate within the service levels.")
    recorded: Recorded | None = Field(default=None, description="Arrivals as they were in the store.")
    seconds: Limit = Field(default=30.0, alias="for", description="How long; for a ramp or a search, each step.")
    think: Duration = Field(default=0.0, description="How long a user waits after an answer before asking again.")
    warmup: Duration = Field(default=3.0, description="Load before it that is not counted.")
    most: Whole = Field(default=2000, ge=1, description="Requests under way at once; what is over it is not sent.")
    plain: Flag = Field(default=False, description="Send each request once, at once: no retry, breaker or cool-down.")
    patience: Limit | None = Field(default=None, description="A client gives up after this; null: it waits.")
    drill: Drill | None = Field(default=None, description="A fault in the middle.")

    @model_validator(mode="after")
    def _one_shape(self) -> Load:
        shapes = [name for name in ("users", "ramp", "rate", "search", "recorded") if getattr(self, name) is not None]
        if len(shapes) != 1:
            raise Wrong(
                f"a load has one shape, not {', '.join(shapes) or 'none'}", "users, ramp, rate, search, recorded"
            )
        if self.think and self.users is None and self.ramp is None:
            raise Wrong("`think` is of users: arrivals come when they are due", "use it with `users` or `ramp`")
        return self


_GATES: dict[GateName, Gate] = {
    "accuracy": Gate(margin=0.03),
    "latency": Gate(margin=0.15),
    "cost": Gate(margin=0.10),
    "safety": Gate(margin=0.02),
    "bias": Gate(margin=0.05),
}


class Suite(Section):
    name: Name = Field(description="The suite's name in reports and in the store.")
    targets: Annotated[tuple[Target, ...], NotEmpty] = Field(description="Who is asked.")
    tasks: dict[Name, Task] = Field(min_length=1, description="What is asked.")
    sampling: Params = Field(
        default_factory=lambda: {"temperature": 0}, description="Parameters that every target is sent alike."
    )
    stream: Flag = Field(default=True, description="Stream the answers, so that first content and gaps are measured.")
    repeats: Whole = Field(default=3, ge=1, le=100, description="How often every case is asked.")
    seed: Whole = Field(default=1, description="Orders the cases; each repeat has an order of its own.")
    concurrency: Whole = Field(default=8, ge=1, le=1000, description="Requests under way at a target.")
    latency: Annotated[Latency, EmptyIsDefault] = Latency()
    slo: Annotated[Slo, EmptyIsDefault] = Slo()
    weights: dict[Metric, Number] = Field(
        default_factory=lambda: dict(zip(METRICS, (40.0, 30.0, 20.0, 10.0), strict=True)),
        description="How much each metric counts; made to sum to 1.",
    )
    anchors: Annotated[Anchors, EmptyIsDefault] = Anchors()
    load: Load | None = Field(default=None, description="How `bench load` asks; `bench run` does not look at it.")
    budget: Money | None = Field(default=None, description="Stops the run before it would be exceeded.")
    baseline: Text | None = Field(default=None, description="The target that the others are compared with.")
    gates: dict[GateName, Gate] = Field(
        default_factory=lambda: dict(_GATES),
        description="What `bench compare` holds a new run to.",
    )
    keep_answers: Flag = Field(default=False, description="Keep answers and reasoning in the run's files.")
    notes: Annotated[tuple[Text, ...], EmptyIsNone] = Field(default=(), description="Kept with every run.")

    _folder: Path = PrivateAttr(default_factory=Path)
    _digest: str = PrivateAttr("")
    _written: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        labels = [target.label for target in self.targets]
        for label in labels:
            if labels.count(label) > 1:
                raise Wrong(f"two targets are called {label!r}", "give one of them a `name`")
        if self.baseline is not None and self.baseline not in labels:
            raise Wrong(f"the baseline {self.baseline!r} is no target", did_you_mean(self.baseline, labels))
        if not any(weight > 0 for weight in self.weights.values()) or min(self.weights.values()) < 0:
            raise Wrong("weights are 0 or more, and at least one is more than 0")
        return self

    @property
    def folder(self) -> Path:
        """Where its data files are looked for."""
        return self._folder

    @property
    def written(self) -> dict[str, Any]:
        """What the file says, as plain values; secrets are still references."""
        return self._written

    @property
    def digest(self) -> str:
        """SHA-256 over everything that the file says, in one canonical order."""
        return self._digest

    def weight(self, metric: Metric) -> float:
        """The share that `metric` has in the score."""
        return self.weights.get(metric, 0.0) / sum(self.weights.values())


def load(path: str | Path, env: Mapping[str, str] = os.environ) -> Suite:
    """Raises `ConfigError` with every mistake, each with its file and line."""
    path = Path(path)
    source = str(path)
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        known = f"name it {', '.join(FORMATS)}"
        raise ConfigError([Problem(source, "", f"not a known format: {path.suffix!r}", known)])
    try:
        raw = path.read_bytes()
        if len(raw) > MOST_BYTES:
            raise ConfigError([too_large(source)])
        written = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(source, "", f"not UTF-8 text (byte {error.start})")]) from None
    except OSError as error:
        raise ConfigError([Problem(source, "", f"cannot be read: {error.strerror or error}")]) from None
    return parse(written, source=source, form=form, folder=path.parent, env=env)


def parse(
    written: str,
    *,
    source: str = "suite.json",
    form: Literal["yaml", "json", "toml"] = "json",
    folder: Path = Path(),
    env: Mapping[str, str] = os.environ,
) -> Suite:
    """As `load`, from text."""
    from proxy.config.known import Reading

    tree = read(written, source, form)
    value = tree.value
    if not isinstance(value, dict):
        raise ConfigError([Problem(source, "", "a suite is a mapping (name: value)", "see docs/benchmarking.md")])
    value = {key: inner for key, inner in value.items() if key != "$schema"}
    try:
        suite = Suite.model_validate(value, context=Reading(env, folder, frozenset()))
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise ConfigError([_said(one, tree) for one in details] + tree.problems) from None
    if tree.problems:
        raise ConfigError(tree.problems)
    suite._folder = folder
    suite._written = value
    suite._digest = hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return suite


def _said(details: Any, tree: Any) -> Problem:
    if is_not_text(details) and tree.text(details["loc"]) is not None:
        found = problem(details, tree, Suite)
        return Problem(found.where, found.path, found.message, "put it in quotes")
    return problem(details, tree, Suite)


def schema() -> dict[str, Any]:
    """JSON Schema of a suite, for editors (`weighbridge bench schema`)."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Suite.model_json_schema()}
