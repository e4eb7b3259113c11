"""The settings: one frozen model, which is at once what a file may say and what the program reads.

Durations are seconds (float), sizes bytes (int). After `load` everything is resolved: a target holds the `params`,
`force` and `timeouts` that apply to it, merged from defaults, route and target.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, PrivateAttr, model_validator
from pydantic_core import CoreSchema

from proxy.config.fields import (
    BaseUrl,
    CaFile,
    Duration,
    EmptyIsDefault,
    EmptyIsNone,
    Flag,
    Headers,
    Limit,
    Money,
    Multiple,
    Name,
    NotEmpty,
    Number,
    OtlpUrl,
    Params,
    Pattern,
    Place,
    ProviderName,
    Quantile,
    Share,
    Size,
    State,
    Storage,
    TargetText,
    Text,
    Whole,
)
from proxy.config.policy import SECTIONS, AnyPolicy, Policy
from proxy.config.problems import Wrong
from proxy.config.section import Section, Shorthand
from proxy.config.shadow import Shadow
from proxy.config.values import KeyDigest, Secret
from proxy.providers.catalog import Operation

__all__ = ["Config", "Policy", "Section"]


class Server(Section):
    host: Text = Field(default="127.0.0.1", description="Address to listen on.")
    port: Whole = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    admin_token: Secret | None = Field(default=None, description="Token for the live page and /api/*.")
    direct: Literal["auto", "always", "never"] = Field(
        default="auto", description="Whether provider/model may be asked for without a route."
    )
    metrics: Literal["open", "token"] = Field(default="open", description="Whether /metrics needs the admin token.")
    drain: Duration = Field(default=30.0, description="How long running requests may take to finish at shutdown.")
    concurrency: Annotated[Whole, Field(ge=1)] | None = Field(
        default=None, description="Most requests in hand at once, those that wait included."
    )
    body_limit: Size = Field(default=32 * 2**20, description="Largest request body.")
    fetch_links: Literal["never", "https", "any"] = Field(
        default="never", description="Whether linked files are fetched for targets that take none by link."
    )


class Provider(Section):
    """`dialect`, `base_url`, `verbatim` and `usage_in_stream` of a known name come from its catalog row."""

    dialect: Text = Field(default="openai", description="The API that it speaks.")
    base_url: BaseUrl = Field(
        description="What stands before /chat/completions; /v1 is added to an address without a path."
    )
    api_key: Secret | None = Field(default=None, description="Its key; null for a provider that needs none.")
    api_keys: Annotated[tuple[Secret, ...], EmptyIsNone] = Field(
        default=(), description="Several keys, each with its own health and limits."
    )
    token_command: tuple[Text, ...] = Field(
        default=(), description="Program and arguments that print a bearer token; run again before it expires."
    )
    token_file: Text | None = Field(default=None, description="File in which another program keeps a bearer token.")
    google_key: Text | None = Field(
        default=None, description="Key file of a Google service account or user, or `default`."
    )
    token_lasts: Duration = Field(default=2700.0, description="How long a token is good that does not say so.")
    like: Text | None = Field(default=None, description="A known name whose row applies, for a second account.")
    http: Literal["auto", "native", "httpx"] = Field(
        default="auto", description="The HTTP client; auto takes httpx where an outbound proxy applies."
    )
    ca_file: CaFile | None = Field(default=None, description="PEM file of certificate authorities to trust instead.")
    headers: Headers = Field(default_factory=dict, description="Headers added to each request.")
    usage_in_stream: Flag = Field(default=True, description="Whether it may be asked for usage in a stream.")
    verbatim: Flag = Field(default=True, description="Whether answers in OpenAI's form are passed on byte for byte.")
    operations: tuple[Operation, ...] | None = Field(
        default=None, description="What it has beside chat; from its catalog row where it is known."
    )
    region: Place | None = Field(default=None, description="Where at AWS the models run (bedrock).")
    project: Place | None = Field(default=None, description="The project at Google Cloud (vertex).")
    location: Place | None = Field(
        default=None, description="Where at Google Cloud the models run (vertex); global where none is named."
    )
    api_version: Text | None = Field(default=None, description="The version of the API that is asked for (azure).")
    deployment: Text | None = Field(default=None, description="The deployment's name, if not the model's (azure).")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # A known name needs nothing, not even an address, and may stand with nothing behind it.
        written = handler(schema)
        written.pop("required", None)
        return {"anyOf": [written, {"type": "null"}]}

    @property
    def credentials(self) -> tuple[Secret, ...]:
        """Every key, in the order in which they are used; empty if the provider needs none."""
        return self.api_keys if self.api_key is None else (self.api_key, *self.api_keys)


class Timeouts(Section):
    total: Limit = Field(default=600.0, description="The whole request, all attempts together.")
    connect: Limit = Field(default=3.0, description="Opening a connection.")
    ttft: Limit = Field(default=30.0, description="First content of a stream.")
    ttft_reasoning: Limit = Field(default=120.0, description="The same for a reasoning model or request.")
    stall: Limit = Field(default=20.0, description="Longest silence within a stream, after its first content.")
    answer: Limit = Field(default=300.0, description="First byte of an answer that is not streamed.")
    adaptive: Flag = Field(
        default=False, description="First content of a stream: thrice the 99th percentile of late instead."
    )
    downstream: Limit = Field(default=60.0, description="A client that does not read its answer.")


class Retries(Section):
    per_target: Whole = Field(default=2, ge=1, le=10, description="Most tries at one target.")
    per_request: Whole = Field(default=4, ge=1, le=100, description="Most tries in all.")


class Hedge(Section):
    """A second attempt beside a first that is late, at another target; streams only."""

    after: Quantile = Field(default=0.95, description="Quantile of the times to first content after which one begins.")
    budget: Share = Field(default=0.05, gt=0, le=1, description="Share of the requests that may be hedged.")


class FailoverOn(Section):
    context_length: Flag = Field(default=True, description="Try a target with a larger context window.")
    content_filter: Flag = Field(default=False, description="Try another target when a content filter refused.")
    bad_request: Flag = Field(default=False, description="Try another target when the request was called bad.")


TimeoutsSection = Annotated[Timeouts, EmptyIsDefault]
RetriesSection = Annotated[Retries, EmptyIsDefault]
FailoverSection = Annotated[FailoverOn, EmptyIsDefault]


class Defaults(Section):
    """For every route, and for direct provider/model."""

    retries: RetriesSection = Retries()
    timeouts: TimeoutsSection = Timeouts()
    failover_on: FailoverSection = FailoverOn()
    params: Params = Field(default_factory=dict, description="Request parameters used where the request has none.")
    force: Params = Field(default_factory=dict, description="Request parameters that override the request's.")
    breaker: Flag = Field(default=True, description="Circuit breakers.")
    hedge: Hedge | None = Field(default=None, description="A second attempt beside a late first.")
    unsupported: Literal["drop", "skip", "strict"] = Field(
        default="drop", description="What becomes of parameters a target cannot take."
    )


class Target(Shorthand):
    """Written as `provider/model`, or as a mapping with more to say."""

    target: TargetText = Field(description="provider/model")
    name: Name | None = Field(default=None, description="A name for it in metrics and records.")
    params: Params = Field(default_factory=dict, description="Request parameters used where the request has none.")
    force: Params = Field(default_factory=dict, description="Request parameters that override the request's.")
    weight: Number = Field(default=1.0, gt=0, description="Share of the requests, for policies that have shares.")
    priority: Whole = Field(default=1, ge=1, le=100, description="Those of the lowest number are asked first.")
    context_window: Whole | None = Field(default=None, gt=0, description="Tokens that fit; null where it is not known.")
    lacks: Annotated[tuple[Literal["tools", "vision", "json", "json_schema"], ...], EmptyIsNone] = Field(
        default=(), description="What it cannot do; requests that need it go elsewhere."
    )
    timeouts: TimeoutsSection = Timeouts()
    concurrency: Annotated[Whole, Field(ge=1)] | Literal["auto"] | None = Field(
        default=None, description="Most requests under way there at once; auto learns it."
    )
    queue: Whole = Field(default=100, ge=0, description="Most requests that wait for one of them to end.")

    @property
    def provider(self) -> str:
        return self.target.partition("/")[0]

    @property
    def model(self) -> str:
        """What goes upstream as the model's name; may itself hold slashes."""
        return self.target.partition("/")[2]

    @property
    def label(self) -> str:
        """How metrics and records call it."""
        return self.name or self.target


class Capture(Section):
    bodies: Literal["none", "redacted", "full"] = Field(
        default="none", description="What is kept of prompts and answers."
    )
    ttl: Limit = Field(default=7 * 86400.0, description="How long they are kept.")
    redact: Annotated[tuple[Pattern, ...], EmptyIsNone] = Field(
        default=(), description="Patterns (regular expressions) that are redacted beside keys and e-mail addresses."
    )


class OwnCapture(Section):
    """What a route or a key says of its own."""

    bodies: Literal["inherit", "none", "redacted", "full"] = Field(
        default="inherit", description="What is kept of its prompts and answers."
    )
    ttl: Limit | None = Field(default=None, description="How long they are kept.")


class Route(Section):
    """One model name that apps ask for. `*` is the route of all names that have none."""

    policy: AnyPolicy = Field(default=SECTIONS["ordered"](), description="How a target is chosen.")
    explore: Share = Field(default=0.0, description="Share of requests whose first target is drawn evenly.")
    targets: Annotated[tuple[Target, ...], NotEmpty] = Field(description="Where requests go.")
    aliases: Annotated[tuple[Name, ...], EmptyIsNone] = Field(default=(), description="Other names for it.")
    timeouts: TimeoutsSection = Timeouts()
    retries: RetriesSection = Retries()
    failover_on: FailoverSection = FailoverOn()
    params: Params = Field(default_factory=dict, description="Request parameters used where the request has none.")
    force: Params = Field(default_factory=dict, description="Request parameters that override the request's.")
    breaker: Flag = Field(default=True, description="Circuit breakers.")
    hedge: Hedge | None = Field(default=None, description="A second attempt beside a late first.")
    unsupported: Literal["drop", "skip", "strict"] = Field(
        default="drop", description="What becomes of parameters a target cannot take."
    )
    capture: Annotated[OwnCapture, EmptyIsDefault] = OwnCapture()


class KeyBudget(Section):
    """Written as a mapping, or as an amount alone, which is then all that may ever be spent."""

    per_day: Money | None = Field(default=None, gt=0, description="Most in a day (UTC).")
    per_month: Money | None = Field(default=None, gt=0, description="Most in a calendar month (UTC).")
    total: Money | None = Field(default=None, gt=0, description="Most at all; it never renews.")

    @model_validator(mode="before")
    @classmethod
    def _from_amount(cls, value: object) -> object:
        return value if isinstance(value, dict | cls) or value is None else {"total": value}

    @model_validator(mode="after")
    def _limits_something(self) -> KeyBudget:
        if (self.per_day, self.per_month, self.total) == (None, None, None):
            raise Wrong("a budget needs an amount", "write per_day, per_month or total: {per_day: 5 USD}")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": ["string", "number"]}, handler(schema)]}


class Key(Section):
    """One client that may call. Only a digest of its key is kept."""

    name: Name = Field(description="Its name in records and metrics.")
    key: KeyDigest = Field(description="The key that it sends as a bearer token.")
    direct: Flag = Field(default=False, description="Whether it may ask for provider/model without a route.")
    routes: tuple[Name, ...] | None = Field(default=None, description="Which routes it may ask for; none: all.")
    priority: Literal["high", "normal", "low"] = Field(
        default="normal", description="Who goes first where requests wait; low is turned away first."
    )
    rpm: Whole | None = Field(default=None, ge=1, description="Most requests a minute.")
    tpm: Whole | None = Field(default=None, ge=1, description="Most tokens a minute, input and output together.")
    budget: KeyBudget | None = Field(default=None, description="Most money that it may spend.")
    tags: Annotated[tuple[Name, ...], EmptyIsNone] = Field(default=(), description="Tags of all its requests.")
    capture: Annotated[OwnCapture, EmptyIsDefault] = OwnCapture()
    shadow: Literal["allowed", "never"] = Field(
        default="allowed", description="Whether its requests may be mirrored to a candidate."
    )

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key's bytes."""
        return self.key.digest


class PriceStep(Section):
    """What changes for prompts longer than `above` tokens; the rest stays."""

    above: Whole = Field(gt=0, description="Tokens of the prompt, cached ones included.")
    input: Money | None = Field(default=None, description="Input.")
    cache_read: Money | None = Field(default=None, description="Input read from the cache.")
    cache_write: Money | None = Field(default=None, description="Input written to the cache.")
    cache_write_1h: Money | None = Field(default=None, description="Input written to the cache for an hour.")
    output: Money | None = Field(default=None, description="Output.")
    reasoning: Money | None = Field(default=None, description="Reasoning.")


class Prices(Section):
    """USD per million tokens, of one target. What has no price of its own costs what stands before it."""

    input: Money = Field(description="Input, USD per million tokens, as all that follow.")
    cache_read: Money | None = Field(default=None, description="Input read from the cache; none: as input.")
    cache_write: Money | None = Field(default=None, description="Input written to the cache; none: as input.")
    cache_write_1h: Money | None = Field(default=None, description="The same for an hour; none: as cache_write.")
    audio_input: Money | None = Field(default=None, description="Sound; none: as input.")
    image_input: Money | None = Field(default=None, description="Pictures; none: as input.")
    audio_cache_read: Money | None = Field(default=None, description="Sound from the cache; none: as cache_read.")
    output: Money = Field(description="Output.")
    reasoning: Money | None = Field(default=None, description="Reasoning; none: as output.")
    audio_output: Money | None = Field(default=None, description="Spoken output; none: as output.")
    image_output: Money | None = Field(default=None, description="Pictures made; none: as output.")
    search: Money = Field(default=0.0, description="USD for each web search that the provider runs.")
    request: Money = Field(default=0.0, description="USD for each request.")
    steps: Annotated[tuple[PriceStep, ...], EmptyIsNone] = Field(
        default=(), description="Other prices for long prompts; they hold for all tokens of the request."
    )
    tiers: Annotated[dict[Name, Multiple], EmptyIsDefault] = Field(
        default_factory=dict, description="Multiples for service tiers: {batch: 50%, priority: 2}."
    )


class Otel(Section):
    endpoint: OtlpUrl | None = Field(default=None, description="OTLP collector over HTTP; none sends no traces.")
    headers: Headers = Field(default_factory=dict, description="Headers for the collector.")
    sample: Share = Field(default=1.0, description="Share of traces that begin here; others say it themselves.")
    service: Text = Field(default="weighbridge", description="service.name of the spans.")


class Retention(Section):
    """How long the store keeps what. Sums by the day are kept forever."""

    raw: Limit = Field(default=14 * 86400.0, description="Single requests and attempts.")
    minutes: Limit = Field(default=90 * 86400.0, description="Sums by the minute.")


class Batches(Section):
    """`/v1/batches`."""

    poll: Limit = Field(default=30.0, description="How often a provider is asked how its batches stand.")


class Config(Section):
    server: Annotated[Server, EmptyIsDefault] = Server()
    storage: Storage | None = Field(
        default="sqlite:///weighbridge.db", description="Where records are kept; none keeps none."
    )
    retention: Annotated[Retention, EmptyIsDefault] = Retention()
    batches: Annotated[Batches, EmptyIsDefault] = Batches()
    state: State = Field(default="memory://", description="Where routing state is kept.")
    providers: Annotated[dict[ProviderName, Provider], EmptyIsDefault] = Field(default_factory=dict)
    defaults: Annotated[Defaults, EmptyIsDefault] = Defaults()
    routes: Annotated[dict[Name, Route], EmptyIsDefault] = Field(default_factory=dict)
    keys: Annotated[tuple[Key, ...], EmptyIsNone] = Field(default=(), description="Who may call.")
    shadow: Annotated[dict[Name, Shadow], EmptyIsDefault] = Field(default_factory=dict)
    prices: Annotated[dict[Name, Prices], EmptyIsDefault] = Field(
        default_factory=dict, description="Prices of targets (provider/model, a name, or provider/*)."
    )
    otel: Annotated[Otel, EmptyIsDefault] = Otel()
    capture: Annotated[Capture, EmptyIsDefault] = Capture()

    _source: str = PrivateAttr("")
    _warnings: tuple[str, ...] = PrivateAttr(())

    @property
    def source(self) -> str:
        """The file that it came from, or `environment`."""
        return self._source

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was accepted but is not active, or is unwise; one line each."""
        return self._warnings

    @property
    def database(self) -> Path | None:
        """The SQLite file of the records; None keeps no records."""
        return Path(self.storage[len("sqlite:///") :]) if self.storage else None
