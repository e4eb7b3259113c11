"""What a recorded answer says, read straight from the provider's form.

Written from the providers' documentation and from recordings alone, without a look at the proxy's dialects: where the
two disagree, one of them is wrong.
"""

from __future__ import annotations

from tests.replay.answer import Answer
from tests.replay.extract import anthropic, bedrock, cohere, gemini, openai
from tests.replay.recording import Recording


def extract(recording: Recording, verbatim: bool) -> Answer:
    """Raises `Broken` for a recording that is no whole answer. `verbatim`: finish reasons stay as they came."""
    raw, stream = recording.body, recording.stream
    if recording.family == "anthropic":
        return anthropic.read_stream(raw) if stream else anthropic.read_body(raw)
    if recording.family == "gemini":
        return gemini.read_stream(raw) if stream else gemini.read_body(raw)
    if recording.family == "bedrock":
        return bedrock.read_stream(raw) if stream else bedrock.read_body(raw)
    if recording.family == "cohere":
        return cohere.read_stream(raw) if stream else cohere.read_body(raw)
    return openai.read_stream(raw, verbatim) if stream else openai.read_body(raw, verbatim)
