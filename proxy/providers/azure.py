"""Azure OpenAI: OpenAI's chat completions at a resource's own address, with a key in a header of its own.

Addresses (Azure OpenAI REST reference and its v1 API, November 2026), under `https://RESOURCE.openai.azure.com`:
`/openai/v1/chat/completions` takes the deployment's name as the model; `/openai/deployments/NAME/chat/completions`
needs a dated `api-version`. `/models/chat/completions` is that of models of other makers. The first chunk of a stream
holds only the filter's results of the prompt and has an empty id; a filtered choice may have no message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from proxy.providers.base import Built, Endpoint, Headers, Speaker
from proxy.providers.compatible import Compatible
from proxy.providers.openai_operations import NATIVES, Elsewhere
from proxy.wire.chat import ChatRequest

DEPLOYMENTS_VERSION = "2024-10-21"
"""The last version that was generally available for addresses with the deployment in them."""
MODELS_VERSION = "2024-05-01-preview"
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}")


def _path(to: Endpoint, what: str) -> str:
    version, base = to.api_version, to.base_url
    if "/deployments/" in base:
        return f"{what}?api-version={quote(version or DEPLOYMENTS_VERSION)}"
    if base.endswith("/models"):
        return f"{what}?api-version={quote(version or MODELS_VERSION)}"
    under = "" if base.endswith("/openai") else "/openai"
    if _DATED.match(version) and not base.endswith("/v1"):
        if what == "/responses":
            return f"{under}{what}?api-version={quote(version)}"
        name = quote(to.deployment or to.model, safe="")
        return f"{under}/deployments/{name}{what}?api-version={quote(version)}"
    query = f"?api-version={quote(version)}" if version else ""
    return f"{'' if base.endswith('/v1') else f'{under}/v1'}{what}{query}"


def account_path(to: Endpoint, what: str) -> str | None:
    """Of what belongs to the account and to no deployment (files, batches); None where the base URL is below that."""
    version, base = to.api_version, to.base_url
    if "/deployments/" in base or base.endswith("/models"):
        return None
    if _DATED.match(version) and not base.endswith("/v1"):
        return f"{'' if base.endswith('/openai') else '/openai'}{what}?api-version={quote(version)}"
    return _path(to, what)


def _deployed(to: Endpoint) -> Endpoint:
    return to._replace(model=to.deployment) if to.deployment else to


class Azure(Compatible):
    dialect = "azure"
    natives: ClassVar[Mapping[str, Speaker[Any]]] = {
        name: Elsewhere(speaker, _path, _deployed) for name, speaker in NATIVES.items()
    }

    def headers(self, to: Endpoint, credential: str | None, stream: bool) -> Headers:
        """The key in `api-key`; a token of Entra ID, which is a JSON web token, as a bearer."""
        if credential is None or credential.startswith("eyJ"):
            return super().headers(to, credential, stream)
        return [*super().headers(to, None, stream), (b"api-key", credential.encode())]

    def models_path(self, to: Endpoint) -> str:
        return _path(to._replace(api_version=""), "/models")  # of the account; deployments have names of their own

    def path(self, to: Endpoint, stream: bool) -> str:
        return _path(to, "/chat/completions")

    def build(self, ask: ChatRequest, to: Endpoint) -> Built:
        return super().build(ask, _deployed(to))
