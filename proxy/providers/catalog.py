"""The provider names known without configuration. Data only: one row a provider.

Addresses and variables are those that the providers' documentation names (November 2026); no row was tried against
the real thing. `base_url` is what stands before the dialect's own paths. Rows of a dialect that this version does not
speak are listed too, so that a config that names one is told so, and not that the name is unknown.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from proxy.providers import quirks
from proxy.providers.quirks import Quirks

DIALECTS = ("openai", "anthropic", "azure", "bedrock", "cohere", "gemini", "mistral", "vertex")
"""The dialects that this version speaks."""


Operation = Literal[
    "messages", "count_tokens", "responses", "completions", "embeddings", "moderations", "images", "speech",
    "transcriptions", "rerank",
]  # fmt: skip
"""What a target may be asked for beside chat, in its own words."""

_SPEECH = frozenset({"speech", "transcriptions"})
_TEXT = frozenset({"completions", "embeddings"})
_OPENAI = _TEXT | _SPEECH | {"responses", "moderations", "images"}
UNKNOWN_SERVER = _TEXT | _SPEECH | {"moderations", "images", "rerank"}
"""Of a server that speaks OpenAI's dialect and is not in the catalog: nothing that chat could stand in for, since that
always works."""


class Row(NamedTuple):
    base_url: str | None
    """None: there is no address for all (it depends on the account or region)."""
    variables: tuple[str, ...]
    """Environment variables that customarily hold the key; the first one that is set is used. `A:B`: both together."""
    dialect: str = "openai"
    key_required: bool = True
    verbatim: bool = False
    """Answers are passed on byte for byte; otherwise they are brought into OpenAI's strict shape."""
    usage_in_stream: bool = True
    """`stream_options: {include_usage: true}` may be sent. False: refused or ignored, or usage comes unasked."""
    operations: frozenset[str] | None = None
    """What it has beside chat, of what its dialect can be asked for; None: all of it."""
    quirks: Quirks = quirks.PLAIN
    """In what its requests and counts differ from OpenAI's."""


CATALOG: dict[str, Row] = {
    "openai": Row(
        "https://api.openai.com/v1", ("OPENAI_API_KEY",), verbatim=True, quirks=quirks.OPENAI, operations=_OPENAI
    ),
    # Other dialects.
    "azure": Row(None, ("AZURE_OPENAI_API_KEY",), dialect="azure", quirks=quirks.AZURE, operations=_OPENAI),
    "anthropic": Row("https://api.anthropic.com", ("ANTHROPIC_API_KEY",), dialect="anthropic"),
    "gemini": Row("https://generativelanguage.googleapis.com", ("GEMINI_API_KEY", "GOOGLE_API_KEY"), dialect="gemini"),
    "vertex": Row(None, (), dialect="vertex"),
    "bedrock": Row(
        None,
        (
            "AWS_BEARER_TOKEN_BEDROCK",
            "AWS_ACCESS_KEY_ID:AWS_SECRET_ACCESS_KEY:AWS_SESSION_TOKEN",
            "AWS_ACCESS_KEY_ID:AWS_SECRET_ACCESS_KEY",
        ),
        dialect="bedrock",
    ),
    # Close to OpenAI's, but tool call ids, content lists and refused parameters need translation.
    "mistral": Row(
        "https://api.mistral.ai/v1",
        ("MISTRAL_API_KEY",),
        dialect="mistral",
        usage_in_stream=False,
        quirks=quirks.MISTRAL,
    ),
    "cohere": Row("https://api.cohere.com", ("COHERE_API_KEY", "CO_API_KEY"), dialect="cohere"),
    # The OpenAI-compatible family.
    "groq": Row(
        "https://api.groq.com/openai/v1", ("GROQ_API_KEY",), quirks=quirks.GROQ, operations=_SPEECH | {"responses"}
    ),
    "deepseek": Row("https://api.deepseek.com", ("DEEPSEEK_API_KEY",), quirks=quirks.DEEPSEEK, operations=frozenset()),
    "qwen": Row(
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        ("DASHSCOPE_API_KEY",),
        quirks=quirks.QWEN,
        operations=frozenset({"embeddings"}),
    ),
    "xai": Row(
        "https://api.x.ai/v1", ("XAI_API_KEY",), quirks=quirks.XAI, operations=frozenset({"responses", "images"})
    ),
    "together": Row(
        "https://api.together.xyz/v1",
        ("TOGETHER_API_KEY",),
        quirks=quirks.TOGETHER,
        operations=_TEXT | {"images", "speech", "transcriptions", "rerank"},
    ),
    "fireworks": Row(
        "https://api.fireworks.ai/inference/v1",
        ("FIREWORKS_API_KEY",),
        quirks=quirks.FIREWORKS,
        operations=_TEXT | {"responses", "rerank"},
    ),
    # Usage stands on every chunk, unasked. Perplexity's support for this API ended on 2026-09-27 in favour of a
    # Responses-like one; requests were still answered after that day.
    "perplexity": Row(
        "https://api.perplexity.ai",
        ("PERPLEXITY_API_KEY",),
        usage_in_stream=False,
        quirks=quirks.PERPLEXITY,
        operations=frozenset({"embeddings"}),
    ),
    # "Full usage details are always included", and the option is to be removed (OpenRouter's ChatStreamOptions).
    "openrouter": Row(
        "https://openrouter.ai/api/v1",
        ("OPENROUTER_API_KEY",),
        usage_in_stream=False,
        quirks=quirks.OPENROUTER,
        operations=_TEXT | {"responses"},
    ),
    "tokenmix": Row("https://api.tokenmix.ai/v1", ("TOKENMIX_API_KEY",), operations=UNKNOWN_SERVER),
    "cerebras": Row(
        "https://api.cerebras.ai/v1",
        ("CEREBRAS_API_KEY",),
        quirks=quirks.CEREBRAS,
        operations=frozenset({"completions"}),
    ),
    "moonshot": Row(
        "https://api.moonshot.ai/v1", ("MOONSHOT_API_KEY",), quirks=quirks.MOONSHOT, operations=frozenset()
    ),
    # Usage comes with the last chunk, unasked; the option is not documented.
    "zai": Row(
        "https://api.z.ai/api/paas/v4",
        ("ZAI_API_KEY",),
        usage_in_stream=False,
        quirks=quirks.ZAI,
        operations=frozenset({"embeddings", "images"}),
    ),
    "huggingface": Row("https://router.huggingface.co/v1", ("HF_TOKEN",), operations=frozenset({"responses"})),
    # The address holds the account: https://ACCOUNT.snowflakecomputing.com/api/v2/cortex/v1
    "snowflake": Row(None, ("SNOWFLAKE_PAT",), operations=frozenset()),
    # One's own servers, at their customary ports. The key is optional.
    "vllm": Row(
        "http://127.0.0.1:8000/v1",
        ("VLLM_API_KEY",),
        key_required=False,
        verbatim=True,
        operations=_TEXT | {"responses", "transcriptions", "rerank"},
    ),
    "llamacpp": Row(
        "http://127.0.0.1:8080/v1",
        ("LLAMA_API_KEY",),
        key_required=False,
        verbatim=True,
        operations=_TEXT | {"responses", "rerank"},
    ),
    "ollama": Row(
        "http://127.0.0.1:11434/v1",
        ("OLLAMA_API_KEY",),
        key_required=False,
        verbatim=True,
        quirks=quirks.OWN_SERVER,
        operations=_TEXT | {"responses"},
    ),
    "lmstudio": Row(
        "http://127.0.0.1:1234/v1",
        ("LM_API_TOKEN",),
        key_required=False,
        verbatim=True,
        quirks=quirks.OWN_SERVER,
        operations=_TEXT | {"responses"},
    ),
}
