"""Azure OpenAI and Azure AI Foundry. Source: Microsoft Learn, "Azure OpenAI in Azure AI Foundry Models: v1 API",
"Azure OpenAI REST API reference" (deployments, `api-version`), "Deploy and use Claude models" (read 2026-11).

`base_url` is the resource's own: `https://RESOURCE.openai.azure.com`, or `https://RESOURCE.services.ai.azure.com`. The
model of a target is the name of its deployment. Without the option `api_version` calls go to the v1 API, which has the
deployment in the body; with it to the address of the deployment. The credential is the resource's key, or with the
option `auth: bearer` a token of Microsoft Entra ID. Claude models are served in Anthropic's dialect.

The reference does not say that closing a stream stops the bill.
"""

from functools import lru_cache
from urllib.parse import quote

from penstock.domain.http import Headers, HttpRequest, Origin
from penstock.domain.snapshot import Credential, Provider
from penstock.providers.anthropic import VERSION
from penstock.providers.base import Outgoing, StopsBilling, origin_of
from penstock.providers.openai import MARKED, OpenAI, addressed

PATHS = {
    "chat.completions": "/chat/completions",
    "responses": "/responses",
    "responses.compact": "/responses/compact",
    "responses.stored": "/responses",
    "completions": "/completions",
    "embeddings": "/embeddings",
}
CLAUDE_PATHS = {"messages": "/anthropic/v1/messages"}


class Azure:
    kind = "azure"
    cancel_stops_billing: StopsBilling = "unknown"
    asks_usage = True
    marks_end = MARKED
    forwards = frozenset({"anthropic-version", "anthropic-beta"})

    def surfaces(self, model: str) -> tuple[str, ...]:
        """Of a deployment, which is best named like its model: that decides, as at OpenAI."""
        if "claude" in model.lower():
            return tuple(CLAUDE_PATHS)
        return tuple(surface for surface in OpenAI().surfaces(model) if surface in PATHS)

    def output_cap_field(self, surface: str) -> str:
        """`max_tokens` is refused by reasoning models, as at OpenAI."""
        if surface == "responses":
            return "max_output_tokens"
        return "max_tokens" if surface in CLAUDE_PATHS else "max_completion_tokens"

    def request(self, provider: Provider, credential: Credential | None, outgoing: Outgoing) -> HttpRequest:
        origin, root = _resource(provider.base_url)
        path = root + _path(outgoing, provider.options.get("api_version", ""))
        fields: Headers = [(name.lower(), value) for name, value in provider.headers.items()]
        fields.append(("content-type", "application/json"))
        if outgoing.surface in CLAUDE_PATHS and "anthropic-version" not in outgoing.headers:
            fields.append(("anthropic-version", VERSION))
        if credential is not None and provider.options.get("auth") == "bearer":
            fields.append(("authorization", f"Bearer {credential.value.reveal()}"))
        elif credential is not None:
            fields.append(("api-key", credential.value.reveal()))
        return addressed(outgoing, HttpRequest("POST", origin, path, fields, outgoing.body, provider.timeouts))


@lru_cache(maxsize=1024)
def _resource(base_url: str) -> tuple[Origin, str]:
    """The address of the resource, whether or not it was written with the path that clients add to it."""
    origin, path = origin_of(base_url)
    return origin, path.removesuffix("/v1").removesuffix("/openai")


def _path(outgoing: Outgoing, api_version: str) -> str:
    if outgoing.surface in CLAUDE_PATHS:
        return CLAUDE_PATHS[outgoing.surface]
    if not api_version:
        return f"/openai/v1{PATHS[outgoing.surface]}"
    if outgoing.surface.startswith("responses"):  # the one that names its deployment in the body
        return f"/openai{PATHS[outgoing.surface]}?api-version={quote(api_version, safe='')}"
    deployment = quote(outgoing.model, safe="")
    return f"/openai/deployments/{deployment}{PATHS[outgoing.surface]}?api-version={quote(api_version, safe='')}"
