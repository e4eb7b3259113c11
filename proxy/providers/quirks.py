"""In what the OpenAI-compatible providers differ from OpenAI in their requests and counts: data, one row a provider.

From the providers' API references (November 2026) and recorded traffic. What providers send that OpenAI would not is
read leniently from all of them (`tidy.py`), so that a new address needs no row; a row is for what cannot be seen.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Quirks(NamedTuple):
    drop: frozenset[str] = frozenset()
    """Parameters it answers with an error, and that only hint: left out, and listed as dropped."""
    refuse: frozenset[str] = frozenset()
    """What it cannot do and what changes the answer's form: `n` (more than one), `json_schema` (a response format),
    `tool_choice` (calls that are forced), `n_with_tools`,
    or parameters by their own names."""
    rename: tuple[tuple[str, str], ...] = ()
    """Parameter -> its name there."""
    values: tuple[tuple[str, str, str], ...] = ()
    """(parameter, OpenAI's value, its value there)."""
    service_tiers: frozenset[str] | None = frozenset()
    """Tiers of OpenAI's that it takes as well; None: it takes any."""
    thinking_back: str = "reasoning_content"
    """The member of an assistant's message under which it takes its reasoning back; empty: it takes none."""
    message_drop: frozenset[str] = frozenset()
    """Members of messages it answers with an error."""
    marks: bool = False
    """It takes `cache_control` and `reasoning_details`, which are not OpenAI's. What a client wrote itself is passed on
    anyway; this is about requests that came in another form."""
    signs_calls: bool = True
    """It takes, or overlooks, `extra_content` of tool calls."""
    developer: bool = False
    """It knows the role `developer`; otherwise such messages are sent as `system`."""
    effort: tuple[dict[str, Any], dict[str, Any]] | None = None
    """Members that stand for `reasoning_effort`: for `none`, and for any other level, which `LEVEL` is replaced by.
    None: it takes the parameter."""
    unreasoning_model: str = ""
    """Pattern of the models that refuse `reasoning_effort`."""
    reasoning_model: str = ""
    """Pattern of the models that refuse `reasoning_drop`."""
    reasoning_drop: frozenset[str] = frozenset()
    reasoning_apart: bool = False
    """`completion_tokens` leaves reasoning out, where the total does not tell."""
    routes: bool = False
    """It chooses among providers itself, and understands a request's `provider` object."""
    citations: bool = False
    """Addresses come in `citations` and `search_results`, and the text holds their numbers: `[1]`."""


LEVEL = "level"

PLAIN = Quirks()
OPENAI = Quirks(
    drop=frozenset({"top_k"}),
    service_tiers=None,
    developer=True,
    unreasoning_model=r"^(gpt-3|gpt-4|chatgpt|ft:gpt-[34])|^gpt-5[^/]*-chat",
    thinking_back="",
    signs_calls=False,
)

_HINTS = frozenset(
    {"store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "verbosity", "prediction"}
)
_LOGPROBS = frozenset({"logprobs", "top_logprobs"})
_PENALTIES = frozenset({"frequency_penalty", "presence_penalty"})
_BIAS = frozenset({"logit_bias"})
_FOREIGN = frozenset(
    {"reasoning", "reasoning_format", "include_reasoning", "thinking", "enable_thinking", "chat_template_kwargs"}
)
"""Other providers' own words about reasoning."""
_OLD_LIMIT = (("max_completion_tokens", "max_tokens"),)
_SWITCH = ({"thinking": {"type": "disabled"}}, {"thinking": {"type": "enabled"}})

GROQ = Quirks(
    drop=_HINTS | _LOGPROBS | _BIAS | {"metadata"},
    refuse=frozenset({"n"}),
    service_tiers=frozenset({"auto", "flex"}),
    thinking_back="reasoning",
    message_drop=frozenset({"name"}),
)
DEEPSEEK = Quirks(
    drop=_HINTS | _BIAS | {"seed", "metadata", "parallel_tool_calls"},
    refuse=frozenset({"n", "json_schema"}),
    rename=_OLD_LIMIT,
    effort=(_SWITCH[0], {**_SWITCH[1], "reasoning_effort": LEVEL}),
)
QWEN = Quirks(
    drop=_HINTS | _BIAS | {"metadata"},
    refuse=frozenset({"tool_choice", "n_with_tools"}),
    rename=_OLD_LIMIT,
    effort=({"enable_thinking": False}, {"enable_thinking": True}),
)
XAI = Quirks(
    drop=_BIAS,
    developer=True,
    reasoning_model=r"grok-(4|3-mini|code)",
    reasoning_drop=_PENALTIES,
    reasoning_apart=True,
)
TOGETHER = Quirks(rename=_OLD_LIMIT, thinking_back="reasoning")
FIREWORKS = Quirks(drop=_HINTS - {"prediction"})
PERPLEXITY = Quirks(
    drop=_HINTS | _LOGPROBS | _BIAS | {"seed", "metadata", "parallel_tool_calls"},
    refuse=frozenset({"n"}),
    rename=_OLD_LIMIT,
    thinking_back="",
    citations=True,
)
OPENROUTER = Quirks(
    refuse=frozenset({"n"}),
    service_tiers=None,
    developer=True,
    thinking_back="reasoning",
    marks=True,
    routes=True,
)
# They know the old name of the limit alone.
OWN_SERVER = Quirks(rename=_OLD_LIMIT)
CEREBRAS = Quirks(
    drop=_HINTS | _PENALTIES | _BIAS | {"metadata"},
    refuse=frozenset({"n"}),
    service_tiers=frozenset({"auto", "default", "flex", "priority"}),
    thinking_back="reasoning",
)
MOONSHOT = Quirks(
    drop=_HINTS | _LOGPROBS | _BIAS | {"seed", "metadata"},
    refuse=frozenset({"tool_choice"}),
    rename=_OLD_LIMIT,
)
ZAI = Quirks(
    drop=_HINTS | _LOGPROBS | _BIAS | _PENALTIES | {"seed", "metadata", "parallel_tool_calls"},
    refuse=frozenset({"n", "json_schema", "tool_choice"}),
    rename=_OLD_LIMIT,
    effort=_SWITCH,
)
# Parameters that are not in its reference are errors (422).
MISTRAL = Quirks(
    drop=_HINTS - {"prediction", "prompt_cache_key"} | _BIAS | _FOREIGN | {"user", "stream_options", "modalities"},
    refuse=frozenset({"audio", "functions", "function_call", "web_search_options"}),
    rename=(*_OLD_LIMIT, ("seed", "random_seed")),
    values=(("tool_choice", "required", "any"),),
    service_tiers=frozenset({"auto"}),
    thinking_back="",
    message_drop=frozenset({"refusal", "annotations", "audio", "reasoning", "reasoning_details"}),
)
AZURE = OPENAI
