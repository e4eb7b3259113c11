"""Files and environments into a config, and every mistake in them told at once, where it stands."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from textwrap import dedent

import pytest

from proxy.config import Config, ConfigError, find, from_environment, load, parse
from proxy.providers.catalog import CATALOG, DIALECTS, Row

ENV = {"OPENAI_API_KEY": "sk-openai", "GROQ_API_KEY": "sk-groq", "APP_KEY": "wb-app", "ADMIN": "wb-admin"}
EXAMPLE = """
server:    {host: 127.0.0.1, port: 8081, admin_token: env:ADMIN}
storage:   sqlite:///weighbridge.db
state:     memory://
providers:
  openai: {}
  local: {dialect: openai, base_url: http://127.0.0.1:8000/v1, api_key: null}
defaults:  {retries: {per_target: 3, per_request: 5}, timeouts: {stall: 5s}, params: {max_tokens: 10, seed: 1}}
routes:
  chat:
    policy: ordered
    targets:
      - openai/gpt-5-mini
      - {target: local/llama, weight: 2, params: {max_completion_tokens: 1024}, timeouts: {ttft: 1s}}
    timeouts: {total: 5m, ttft: 10s}
    retries:  {per_request: 2}
    failover_on: {bad_request: true}
    params: {temperature: 0.5, seed: 2}
    force: {user: proxy}
    aliases: [fast]
  "*": {targets: [openai/gpt-5-mini]}
keys:
  - {name: app, key: env:APP_KEY}
"""


@pytest.fixture(autouse=True)
def _telegraph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known provider whose dialect nobody speaks."""
    monkeypatch.setitem(CATALOG, "telegraph", Row("http://telegraph", ("TELEGRAPH_KEY",), dialect="morse"))


def read(text: str, env: dict[str, str] | None = None, folder: Path = Path()) -> Config:
    return parse(dedent(text), source="c.yaml", env=ENV if env is None else env, folder=folder)


def problems(text: str, env: dict[str, str] | None = None, folder: Path = Path()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, env, folder)
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


def test_what_a_file_says() -> None:
    config = read(EXAMPLE)
    assert config.source == "c.yaml"
    assert (config.server.host, config.server.port, config.server.drain) == ("127.0.0.1", 8081, 30.0)
    assert config.server.admin_token is not None
    assert config.server.admin_token.reveal() == "wb-admin"
    assert config.database == Path("weighbridge.db")
    assert list(config.providers) == ["openai", "local"]
    assert [secret.reveal() for secret in config.providers["openai"].credentials] == ["sk-openai"]
    assert config.providers["local"].credentials == ()
    [key] = config.keys
    assert (key.name, key.direct, key.digest) == ("app", False, hashlib.sha256(b"wb-app").digest())
    assert list(config.routes) == ["chat", "*"]
    assert config.routes["chat"].aliases == ("fast",)
    assert config.routes["chat"].policy.kind == "ordered"


def test_settings_are_merged_leaf_by_leaf() -> None:
    chat = read(EXAMPLE).routes["chat"]
    assert (chat.retries.per_target, chat.retries.per_request) == (3, 2)
    assert (chat.failover_on.bad_request, chat.failover_on.context_length) == (True, True)
    assert (chat.timeouts.total, chat.timeouts.ttft, chat.timeouts.stall, chat.timeouts.connect) == (300, 10, 5, 3)
    first, second = chat.targets
    assert (first.provider, first.model, first.label) == ("openai", "gpt-5-mini", "openai/gpt-5-mini")
    assert first.timeouts == chat.timeouts
    assert first.params == {"max_tokens": 10, "seed": 2, "temperature": 0.5}
    assert (second.timeouts.ttft, second.timeouts.total) == (1, 300)
    # max_tokens and max_completion_tokens are one parameter under two names.
    assert second.params == {"seed": 2, "temperature": 0.5, "max_completion_tokens": 1024}
    assert first.force == second.force == {"user": "proxy"}
    star = read(EXAMPLE).routes["*"]
    assert (star.retries.per_target, star.retries.per_request, star.timeouts.stall) == (3, 5, 5)
    assert star.targets[0].params == {"max_tokens": 10, "seed": 1}


def test_no_secret_can_be_read_off_a_config() -> None:
    config = read(EXAMPLE)
    for shown in (repr(config), str(config), repr(config.model_dump()), config.model_dump_json()):
        for secret in ENV.values():
            assert secret not in shown


def test_a_config_is_frozen() -> None:
    config = read(EXAMPLE)
    with pytest.raises(ValueError, match="frozen"):
        config.server.port = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        config.routes["chat"].targets[0].weight = 1  # type: ignore[misc]


FIVE = """\
server: {port: eighty}
providers:
  openai: {}
rotes:
  chat:
routes:
  chat:
    policy: weigted
    targets:
      - openai/gpt-5-mini
      - opnai/gpt-5-mini
    timeouts:
      ttft: 30
"""


def test_five_mistakes_are_five_problems_each_with_its_line() -> None:
    assert problems(FIVE) == [
        "c.yaml:1: server.port: should be a whole number, not text",
        "c.yaml:4: rotes: unknown setting (did you mean 'routes'?)",
        "c.yaml:8: routes.chat.policy: unknown policy 'weigted' (did you mean 'weighted'?)",
        "c.yaml:11: routes.chat.targets[1]: unknown provider 'opnai' (did you mean 'openai'?)",
        "c.yaml:13: routes.chat.timeouts.ttft: a duration needs a unit: 30 (30s for seconds, 30ms for milliseconds)",
    ]


def test_the_same_mistakes_in_json_and_toml() -> None:
    value = {
        "server": {"port": "eighty"},
        "providers": {"openai": {}},
        "rotes": {"chat": 1},
        "routes": {"chat": {"policy": "weigted", "targets": ["opnai/gpt-5-mini"], "timeouts": {"ttft": 30}}},
    }
    with pytest.raises(ConfigError) as in_json:
        parse(json.dumps(value), source="c.json", format="json", env=ENV)
    assert [problem.where for problem in in_json.value.problems] == ["c.json"] * 5
    toml = """
rotes = {chat = 1}
[server]
port = "eighty"
[providers.openai]
[routes.chat]
policy = "weigted"
targets = ["opnai/gpt-5-mini"]
timeouts = {ttft = 30}
"""
    with pytest.raises(ConfigError) as in_toml:
        parse(toml, source="c.toml", format="toml", env=ENV)

    def told(error: ConfigError) -> set[tuple[str, str, str | None]]:
        return {problem[1:] for problem in error.problems}

    assert told(in_json.value) == told(in_toml.value)
    assert {problem.path for problem in in_json.value.problems} == {
        "server.port", "rotes", "routes.chat.policy", "routes.chat.targets[0]", "routes.chat.timeouts.ttft",
    }  # fmt: skip


OPENAI = "providers: {openai: }\n"
ROUTE = OPENAI + "routes: {chat: {targets: [openai/a], %s}}"
MISTAKES = [
    ("", "providers: no providers: there is nobody to send requests to (write for example `providers: {openai: {}}` "),
    ("[a]", "c.yaml:1: a config is a mapping (name: value)"),
    ("text", "a config is a mapping"),
    ("providers: {}", "no providers"),
    ("providers: [openai]", "providers: should be a mapping (name: value), not a list"),
    ("providers: {openai: yes}", "providers.openai: should be a mapping (name: value), not text"),
    ("providers: {a/b: {base_url: http://x}}", "providers.a/b: holds a character that is not allowed there"),
    ("providers: {mine: }", "providers.mine.base_url: is missing, and 'mine' is no name known by itself"),
    ("providers: {opnai: }", "'opnai' is no name known by itself (did you mean 'openai'?)"),
    ("providers: {mistral: {dialect: openai, api_key: null}}", "this dialect of 'mistral' has no built-in address"),
    ("providers: {telegraph: }", "provider 'telegraph' speaks the morse dialect, which this version does not have "
     "yet (available: openai, "),
    ("providers: {x: {dialect: opena, base_url: http://x}}", "unknown dialect 'opena' (did you mean 'openai'?)"),
    ("providers: {x: {like: grok}}", "providers.x.like: not a known provider: 'grok' (did you mean 'groq'?)"),
    ("providers: {deepseek: }", "providers.deepseek.api_key: the environment variable DEEPSEEK_API_KEY is not set "
     "(set DEEPSEEK_API_KEY, or write api_key: null if it needs none)"),
    ("providers: {openai: {api_key: env:OPENAI_API_KE}}", "(set OPENAI_API_KE, or did you mean 'OPENAI_API_KEY'?, or"),
    ("providers: {openai: {api_key: ''}}", "providers.openai.api_key: the secret is empty"),
    ("providers: {openai: {api_key: [a]}}", "providers.openai.api_key: should be text (env:NAME or file:PATH), not a "),
    ("providers: {openai: {api_keys: env:A}}", "providers.openai.api_keys: should be a list, not text (put it into"),
    ("providers: {openai: {api_key: a, api_keys: [b]}}", "providers.openai.api_keys: api_key stands beside it"),
    ("providers: {openai: {http: fast}}", "should be one of auto, native, httpx, not 'fast'"),
    ("providers: {openai: {verbatim: 1}}", "providers.openai.verbatim: should be true or false, not a number"),
    ("providers: {openai: {verbatim: on}}", "should be true or false, not text (without quotes, and not on/off"),
    ("providers: {openai: {ca_file: nowhere.pem}}", "providers.openai.ca_file: there is no such file: nowhere.pem"),
    ("providers: {openai: {headers: {Host: x}}}", "providers.openai.headers.Host: host is written by the proxy itself"),
    ("providers: {openai: {headers: {authorization: x}}}", "authorization is written by the proxy (put the key into"),
    ("providers: {openai: {headers: {'a b': x}}}", "not a header name: 'a b'"),
    ("providers: {openai: {headers: {X-A: 'x\n\n y'}}}", "the secret holds a line break"),
    ("providers: {openai: {headers: {X-A: x, x-a: y}}}", "'X-A' and 'x-a' are one header"),
    (OPENAI + "server: {port: 65536}", "server.port: should be less than or equal to 65535"),
    (OPENAI + "server: {port: -1}", "server.port: should be greater than or equal to 0"),
    (OPENAI + "server: {port: 80.5}", "server.port: should be a whole number, not a number"),
    (OPENAI + "server: {port: true}", "server.port: should be a whole number, not true/false"),
    (OPENAI + "server: {body_limit: 0}", "server.body_limit: should be more than 0"),
    (OPENAI + "server: {body_limit: 10}", "server.body_limit: a size needs a unit: 10"),
    (OPENAI + "server: {drain: soon}", "server.drain: not a duration: 'soon'"),
    (OPENAI + "server: {direct: maybe}", "server.direct: should be one of auto, always, never, not 'maybe'"),
    (OPENAI + "server: {admin_token: env:NOPE}", "server.admin_token: the environment variable NOPE is not set (set N"),
    ("providers: {openai: {api_key: '${K}'}}", "providers.openai.api_key: an environment variable is not written so "),
    ("providers: {openai: {api_key: $OPENAI_KEY}}", "providers.openai.api_key: an environment variable is not written"),
    ("providers: {openai: {api_key: os.environ/K}}", "providers.openai.api_key: an environment variable is not"),
    (OPENAI + "server: 5", "server: should be a mapping (name: value), not a number"),
    (OPENAI + "storage: postgresql://db/x", "storage: Postgres is not available in this version"),
    (OPENAI + "storage: weighbridge.db", "storage: not a store: 'weighbridge.db' (write sqlite:///weighbridge.db"),
    (OPENAI + "storage: 'sqlite:///'", "storage: not a store"),
    (OPENAI + "storage: 'mysql://u:p/w@h/db'", "storage: not a store: 'mysql://...@h/db' (write sqlite:///"),
    (OPENAI + "state: 'redis://:p@w@h'", "state: 'redis://...@h' is not available in this version"),
    (OPENAI + "storage: 'sqlite:///a?b'", "storage: the path of the store holds"),
    (OPENAI + "state: redis://x", "state: 'redis://x' is not available in this version (available: memory://)"),
    (OPENAI + "routes: {chat: }", "routes.chat: should be a mapping (name: value), not null"),
    (OPENAI + "routes: {chat: {}}", "routes.chat.targets: is missing"),
    (OPENAI + "routes: {chat: {targets: []}}", "routes.chat.targets: should not be empty (name at least one)"),
    (OPENAI + "routes: {chat: {targets: openai/a}}", "routes.chat.targets: should be a list, not text (put it into"),
    (OPENAI + "routes: {'': {targets: [openai/a]}}", "routes['']: should have at least 1 character"),
    (OPENAI + "routes: {chat: {targets: [gpt-5]}}", "routes.chat.targets[0]: not provider/model: 'gpt-5' (write it"),
    (OPENAI + "routes: {chat: {targets: [5]}}", "routes.chat.targets[0]: not provider/model: '5'"),
    (OPENAI + 'routes: {chat: {targets: ["openai/a\\r\\nb"]}}', "routes.chat.targets[0]: holds a line break"),
    (OPENAI + "routes: {chat: {targets: [[a]]}}", "routes.chat.targets[0]: should be text, not a list"),
    (OPENAI + "routes: {chat: {targets: [{weight: 1}]}}", "routes.chat.targets[0]: is missing"),
    (OPENAI + "routes: {chat: {targets: [openai/]}}", "routes.chat.targets[0]: not provider/model"),
    (OPENAI + "routes: {chat: {targets: [deepseek/x]}}", "provider 'deepseek' has no key (set DEEPSEEK_API_KEY)"),
    (OPENAI + "routes: {chat: {targets: [telegraph/x]}}", "provider 'telegraph' speaks the morse dialect"),
    (OPENAI + "routes: {chat: {targets: [lcoal/x]}}", "unknown provider 'lcoal' (configure it: providers: "),
    (OPENAI + "routes: {chat: {targets: [openai/a, openai/b, openai/a]}}", "targets[2]: the same as targets[0]"),
    (OPENAI + "routes: {chat: {targets: [{target: openai/a, weight: 0}]}}", "weight: should be greater than 0"),
    (OPENAI + "routes: {chat: {targets: [{target: openai/a, weight: .inf}]}}", "weight: should be a finite number"),
    (OPENAI + "routes: {chat: {targets: [{target: openai/a, context_window: 1k}]}}", "context_window: should be"),
    (OPENAI + "routes: {a: {targets: [openai/a]}, b: {targets: [openai/a], aliases: [a]}}", "is the name of a route"),
    (ROUTE % "aliases: [x, x]", "routes.chat.aliases[1]: 'x' is taken by routes.chat.aliases[0]"),
    (ROUTE % "aliases: ['*']", "routes.chat.aliases[0]: '*' cannot be an alias"),
    (ROUTE % "policy: weigthed", "routes.chat.policy: unknown policy 'weigthed' (did you mean 'weighted'?)"),
    (ROUTE % "policy: 'mine.policies:Best'", "cannot import 'mine.policies'"),
    (ROUTE % "policy: {kind: weighted, sed: x}", "routes.chat.policy.sed: unknown setting (did you mean 'seed'?)"),
    (ROUTE % "policy: {kind: weighted, seed: [1]}", "routes.chat.policy.seed: should be text, not a list"),
    (ROUTE % "policy: {}", "a policy needs its `kind`"),
    (ROUTE % "policy: 'json:nothing'", "'nothing' in 'json' is no policy"),
    (ROUTE % "policy: 'policies.base:Policy'", "is no frozen dataclass"),
    (ROUTE % "policy: {kind: canary, candidate: openai/b}", "'openai/b' is no target of this route (did you mean"),
    (
        ROUTE % "policy: {kind: conditional, rules: [{when: {tokens: many}}]}",
        "routes.chat.policy.rules[0].when: not a condition on a number: 'many'",
    ),
    (
        ROUTE % "policy: {kind: conditional, rules: [{when: {tols: true}}]}",
        "routes.chat.policy.rules[0].when.tols: unknown setting (did you mean 'tools'?)",
    ),
    (
        ROUTE % "policy: {kind: conditional, rules: [{policy: {kind: fastest, quantil: 5%}}]}",
        "routes.chat.policy.rules[0].policy: quantil: unknown setting",
    ),
    (ROUTE % "policy: {kind: fastest, quantile: 100%}", "routes.chat.policy.quantile: should be less than or equal to"),
    (ROUTE % "explore: 101%", "routes.chat.explore: a percentage lies between"),
    (ROUTE % "policy: {kind: ordered, quantile: 1}", "routes.chat.policy.quantile: unknown setting (known: kind)"),
    (ROUTE % "policy: [ordered]", "policy: should be a policy's name or a mapping (name: value), not a list"),
    (ROUTE % "retries: {per_target: 0}", "routes.chat.retries.per_target: should be greater than or equal to 1"),
    (ROUTE % "timeouts: {totl: 5s}", "routes.chat.timeouts.totl: unknown setting (did you mean 'total'?)"),
    (ROUTE % "timeouts: {total: 0s}", "routes.chat.timeouts.total: should be longer than 0"),
    (ROUTE % "failover_on: {bad_request: 'true'}", "failover_on.bad_request: should be true or false, not text"),
    (ROUTE % "params: {model: x}", "routes.chat.params.model: 'model' is the request's own"),
    (ROUTE % "force: {a: [{b: .nan}]}", "routes.chat.force.a: infinity and NaN cannot be sent as JSON"),
    (OPENAI + "keys: {name: a}", "keys: should be a list, not a mapping"),
    (OPENAI + "keys: [{name: a}]", "keys[0].key: is missing"),
    (OPENAI + "keys: [{key: env:APP_KEY}]", "keys[0].name: is missing"),
    (OPENAI + "keys: [{name: a, key: env:APP_KEY}, {name: a, key: env:ADMIN}]", "'a' is the name of keys[0]"),
    (OPENAI + "keys: [{name: a, key: env:APP_KEY}, {name: b, key: env:APP_KEY}]", "the same secret as keys"),
    (OPENAI + "server: {admin_token: env:ADMIN}\nkeys: [{name: a, key: env:ADMIN}]", "the same secret as server.admin"),
    (OPENAI + '"a\\e\\nb": 1', "unknown setting"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=range(len(MISTAKES)))
def test_one_mistake_is_one_problem(text: str, said: str) -> None:
    [problem] = problems(text)
    assert said in problem
    assert "\n" not in problem


def test_problems_never_show_a_secret() -> None:
    for text in (
        "providers: {openai: {api_key: {sk-hidden: 1}, headers: {x-key: ' sk-hidden'}}}",
        "keys: [{name: a, key: 'sk-hidden\\n'}, {name: b, key: sk-hidden}, {name: c, key: sk-hidden}]",
        "server: {admin_token: ['sk-hidden']}",
    ):
        assert not [problem for problem in problems(text) if "hidden" in problem]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        ("https://host.example/openai/deployments/x/", "https://host.example/openai/deployments/x"),
        ("HTTPS://Host.Example", "https://Host.Example/v1"),
        ("http://[::1]:1234", "http://[::1]:1234/v1"),
        ("https://api.perplexity.ai/", "https://api.perplexity.ai"),
    ],
)
def test_addresses(written: str, meant: str) -> None:
    config = read(f"providers: {{mine: {{base_url: '{written}', api_key: null}}}}")
    assert config.providers["mine"].base_url == meant


@pytest.mark.parametrize(
    "written",
    [
        "127.0.0.1:8000", "ftp://x", "http://", "https:///v1", "http://u:p@x/v1", "http://x/v1?a=b", "http://x/v1#a",
        "http://x:99999", "http://x:0", "http://[::1", "http://a b", "http://münchen.example", "http://x/chat/completions",
        "", "//x", "5",
    ],
)  # fmt: skip
def test_no_addresses(written: str) -> None:
    [problem] = problems(f"providers: {{mine: {{base_url: '{written}'}}}}")
    assert problem.startswith("c.yaml:1: providers.mine.base_url: ")


def test_known_providers_bring_their_row() -> None:
    env = {"GROQ_API_KEY": "g", "OTHER": "o", "MORE": "m", "VLLM_API_KEY": "v"}
    text = """
        providers:
          groq:
          second: {like: groq, api_keys: [env:OTHER, env:MORE]}
          ollama:
          vllm: {base_url: http://10.0.0.1:8000}
          mine: {base_url: https://mine.example}
    """
    providers = read(text, env).providers
    assert [secret.reveal() for secret in providers["groq"].credentials] == ["g"]
    assert providers["groq"].base_url == providers["second"].base_url == "https://api.groq.com/openai/v1"
    assert [secret.reveal() for secret in providers["second"].credentials] == ["o", "m"]
    assert (providers["groq"].verbatim, providers["second"].verbatim) == (False, False)
    assert (providers["ollama"].verbatim, providers["vllm"].verbatim, providers["mine"].verbatim) == (True, True, True)
    assert providers["ollama"].credentials == ()
    assert [secret.reveal() for secret in providers["vllm"].credentials] == ["v"]
    assert providers["vllm"].base_url == "http://10.0.0.1:8000/v1"


def test_no_key_can_be_said_in_every_format() -> None:
    for format, text in (
        ("yaml", "providers: {openai: {api_key: null}}"),
        ("json", '{"providers": {"openai": {"api_key": null}}}'),
        ("toml", "[providers.openai]\napi_keys = []"),
    ):
        config = parse(text, source="c", format=format, env=ENV)  # type: ignore[arg-type]
        assert config.providers["openai"].credentials == ()


def test_targets_bring_in_known_providers_with_a_key_or_no_need_of_one() -> None:
    config = read("routes: {chat: {targets: [groq/llama-3, ollama/qwen]}}")
    assert list(config.providers) == ["groq", "ollama"]


def test_text_keeps_the_form_in_which_it_was_written() -> None:
    config = read("""
        providers: {openai: , 7: {base_url: http://x}}
        routes:
          4.10: {targets: [7/1e3, openai/2026-11-01, {target: openai/x, name: 007}], aliases: [null, 0x1F, True, on]}
        keys: [{name: 1.50, key: 12345678901234567890}]
    """)
    route = config.routes["4.10"]
    assert [target.label for target in route.targets] == ["7/1e3", "openai/2026-11-01", "007"]
    assert route.aliases == ("null", "0x1F", "True", "on")
    assert config.keys[0].name == "1.50"
    assert config.keys[0].digest == hashlib.sha256(b"12345678901234567890").digest()


def test_anchors_and_merge_keys_serve_routes() -> None:
    config = read("""
        providers: {openai: }
        routes:
          chat: &chat {targets: [openai/a], timeouts: &slow {ttft: 1m}}
          more: {<<: *chat, timeouts: {<<: *slow, stall: 1s}}
    """)
    assert (config.routes["more"].timeouts.ttft, config.routes["more"].timeouts.stall) == (60, 1)
    assert config.routes["more"].targets[0].target == "openai/a"


def test_empty_sections_are_as_good_as_none() -> None:
    text = "providers: {openai: }\nserver:\nroutes:\nkeys:\ndefaults: {timeouts: , params: }\nstorage:"
    config = read(text)
    assert (config.keys, config.routes, config.storage, config.database) == ((), {}, None, None)
    assert config.defaults == read("providers: {openai: }").defaults


@pytest.mark.parametrize(
    ("storage", "path"),
    [
        ("sqlite:///a/b.db", Path("a/b.db")),
        ("sqlite:////var/b.db", Path("/var/b.db")),
        ("none", None),
        ("null", None),
        ("~", None),
    ],
)
def test_stores(storage: str, path: Path | None) -> None:
    assert read(f"providers: {{openai: }}\nstorage: {storage}").database == path


def test_notes() -> None:
    config = read("""
        server: {port: 8000}
        providers:
          openai: {api_key: sk-literal, deployment: eu}
          far: {base_url: http://far.example, api_key: env:APP_KEY}
          farther: {base_url: http://far.example, api_key: null}
          near: {base_url: http://localhost:8000, api_key: env:APP_KEY}
        defaults: {breaker: true, hedge: {after: p95, budget: 5%}}
        routes:
          chat: {targets: [{target: openai/a, weight: 2}], unsupported: drop, breaker: true, capture: {bodies: none}}
          calm: {targets: [openai/b], breaker: false, hedge: null}
        capture: {bodies: none}
        keys: [{name: a, key: env:APP_KEY, direct: true, rpm: 5, tags: [x], shadow: never}]
    """)
    assert list(config.warnings) == [
        "providers.openai.api_key: a secret stands in the file itself; env:NAME or file:PATH keeps it out",
        "routes.chat.targets[0].weight: has no effect with the policy 'ordered'",
        "providers.openai.deployment: has no effect with the dialect 'openai'",
        "providers.far.base_url: the key travels unencrypted to far.example (http, not https)",
        "providers.near.base_url: port 8000 on this machine is the proxy's own (server.port); the provider should "
        "listen on another",
    ]


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("server: {direct: never}", True),
        ("keys: [{name: a, key: env:APP_KEY}]", True),
        ("keys: [{name: a, key: env:APP_KEY, direct: true}]", False),
        ("server: {direct: always}\nkeys: [{name: a, key: env:APP_KEY}]", False),
        ("routes: {chat: {targets: [openai/a]}}\nserver: {direct: never}", False),
        ("server: {host: 127.0.0.1}", False),
    ],
)
def test_a_config_that_can_serve_nothing_is_noted(text: str, noted: bool) -> None:
    warnings = read(f"providers: {{openai: }}\n{text}").warnings
    assert any("nothing can be asked for" in warning for warning in warnings) is noted


def test_metrics_behind_a_token_that_is_not_there() -> None:
    [warning] = read("providers: {openai: }\nserver: {metrics: token}").warnings
    assert "server.metrics" in warning


def test_the_environment_alone() -> None:
    config = from_environment({**ENV, "DEEPSEEK_API_KEY": "", "TELEGRAPH_KEY": "a", "VLLM_API_KEY": "v"})
    assert config.source == "environment"
    assert list(config.providers) == ["openai", "groq", "vllm"]
    assert config.warnings == (
        "TELEGRAPH_KEY is set, but telegraph speaks the morse dialect, which this version does not have yet "
        f"(available: {', '.join(DIALECTS)})",
    )
    assert (config.routes, config.keys) == ({}, ())


def test_an_environment_without_keys() -> None:
    with pytest.raises(ConfigError) as caught:
        from_environment({"TELEGRAPH_KEY": "a", "OPENAI_API_KEY": ""})
    [problem] = caught.value.problems
    assert (problem.where, problem.message) == ("environment", "no key of a known provider is set")
    assert problem.hint is not None
    assert problem.hint.startswith("set one of OPENAI_API_KEY, ")
    with pytest.raises(
        ConfigError, match=r"environment: providers\.openai\.api_key: env:OPENAI_API_KEY begins or ends"
    ):
        from_environment({"OPENAI_API_KEY": "sk\n"})


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("sk-file\n")
    (tmp_path / "ca.pem").write_text("")
    texts = {
        "a.yaml": "\ufeffproviders: {openai: {api_key: file:key, ca_file: ca.pem}}",
        "b.YML": "providers: {openai: {api_key: file:key}}",
        "c.json": '{"providers": {"openai": {"api_key": "file:key"}}}',
        "d.toml": '[providers.openai]\napi_key = "file:key"',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        config = load(tmp_path / name, {})
        assert config.source == str(tmp_path / name)
        assert config.providers["openai"].credentials[0].reveal() == "sk-file"
    assert load(tmp_path / "a.yaml", {}).providers["openai"].ca_file == str(tmp_path / "ca.pem")
    monkeypatch.chdir(tmp_path)
    assert find("c.json", {}).source == "c.json"
    assert find(None, ENV).source == "environment"
    (tmp_path / "weighbridge.toml").write_text(texts["d.toml"])
    assert find(None, ENV).source == "weighbridge.toml"
    (tmp_path / "weighbridge.yaml").write_text("server: 5")
    with pytest.raises(ConfigError, match=r"weighbridge\.yaml:1: server: "):
        find(None, ENV)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "weighbridge.yaml").write_text("providers: {openai: }")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    (tmp_path / "cut.yaml").write_bytes("a: é".encode()[:-1])
    (tmp_path / "large.yaml").write_bytes(b"# " + b"x" * 1024 * 1024)
    (tmp_path / "folder.yaml").mkdir()
    for name, message in (
        ("weighbrige.yaml", r"there is no such file \(did you mean 'weighbridge.yaml'\?\)"),
        ("missing/c.yaml", "there is no such file$"),
        ("c.ini", r"not a known format: '.ini' \(name it .yaml, .yml, .json, .toml\)"),
        ("c", "not a known format: ''"),
        ("latin.yaml", r"not UTF-8 text \(byte 3\)"),
        ("cut.yaml", r"not UTF-8 text \(byte 3\)"),
        ("large.yaml", "larger than 1024 KiB"),
        ("folder.yaml", "cannot be read: Is a directory"),
        ("a\0.yaml", "cannot be read: "),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            load(tmp_path / name, {})
        assert len(caught.value.problems) == 1


def test_a_large_file_cut_within_a_letter_is_called_large(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"# " + "é".encode() * 600_000)
    with pytest.raises(ConfigError, match="larger than"):
        load(tmp_path / "c.yaml", {})


@pytest.mark.parametrize(
    ("budget", "amounts"),
    [
        ("5", (None, None, 5.0)),
        ("5 USD", (None, None, 5.0)),
        ("{per_day: 5 USD}", (5.0, None, None)),
        ("{per_day: $1, per_month: 20, total: 100 USD}", (1.0, 20.0, 100.0)),
    ],
)
def test_a_budget_is_an_amount_or_several(budget: str, amounts: tuple[float | None, ...]) -> None:
    (key,) = read(f"providers: {{openai: }}\nkeys: [{{name: a, key: env:APP_KEY, budget: {budget}}}]").keys
    assert key.budget is not None
    assert (key.budget.per_day, key.budget.per_month, key.budget.total) == amounts


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("budget: {}", "a budget needs an amount"),
        ("budget: {per_day: 0}", "greater than 0"),
        ("budget: {per_week: 5}", "per_week"),
        ("budget: much", "should be an amount such as 5 USD"),
        ("rpm: 0", "greater than or equal to 1"),
        ("tpm: many", "tpm"),
    ],
)
def test_a_limit_that_is_none_is_refused(limit: str, said: str) -> None:
    (found,) = problems(f"providers: {{openai: }}\nkeys: [{{name: a, key: env:APP_KEY, {limit}}}]")
    assert said in found
