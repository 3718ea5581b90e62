"""Deployments at the clouds, which have more to them than an address and a key.

Source: the pages "Azure OpenAI", "Azure AI Studio", "AWS Bedrock" and "VertexAI" of the LiteLLM documentation.
"""

import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from penstock.config.litellm.notes import Notes

Fields = dict[str, Any]

ENVIRONMENT = "os.environ/"
_AZURE_HOSTS = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")
_NEWEST = frozenset({"", "v1", "latest", "preview"})
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]")
_WAYS = ("converse/", "converse_like/", "invoke/")


class Cloud(NamedTuple):
    """What a deployment there becomes. `key`: what is written as its key, `variable` where that stands by default."""

    kind: str
    address: Any
    model: str
    options: dict[str, str] = {}  # noqa: RUF012  never changed
    key: Any = None
    variable: str = ""


def read(kind: str, model: str, address: Any, params: Fields, noted: tuple[Notes, str]) -> Cloud | None:
    """Takes what it understands out of `params`. None, with a note, for what cannot be carried; also for a kind that is
    no cloud's."""
    if kind == "azure":
        return _azure(model, address, params, noted)
    if kind == "bedrock":
        return _bedrock(model, address, params, noted)
    return _vertex(model, address, params, noted)


def _azure(model: str, address: Any, params: Fields, noted: tuple[Notes, str]) -> Cloud:
    """At a resource's own host; what else is called Azure AI speaks OpenAI's dialect at the address that is written."""
    notes, place = noted
    options: dict[str, str] = {}
    version = params.pop("api_version", None)
    if isinstance(version, str) and version.startswith(ENVIRONMENT):
        notes.add(f"{place}.api_version", "stands in the file itself, not in a variable: the v1 API is called")
    elif str(version or "") not in _NEWEST:
        options["api_version"] = str(version)
    key = params.get("api_key")
    if (token := params.pop("azure_ad_token", None)) is not None:
        options["auth"], key = "bearer", token
    host = urlsplit(address).hostname or "" if isinstance(address, str) else ""
    if host and not host.endswith(_AZURE_HOSTS):
        return Cloud("compatible", address, model, key=key)
    at = f"https://{host}" if host else address
    return Cloud("azure", at, model.removeprefix("responses/"), options, key)


def _bedrock(model: str, address: Any, params: Fields, noted: tuple[Notes, str]) -> Cloud | None:
    notes, place = noted
    for way in _WAYS:
        model = model.removeprefix(way)
    first, slash, rest = model.partition("/")
    region = params.pop("aws_region_name", None)
    if slash and _REGION.fullmatch(first):
        region, model = first, rest
    address = params.pop("aws_bedrock_runtime_endpoint", None) or address
    if address is None:
        if not isinstance(region, str) or not _REGION.fullmatch(region):
            notes.add(f"{place}.aws_region_name", "is missing, or not written out: the address needs it: left out")
            return None
        address = f"https://bedrock-runtime.{region}.amazonaws.com"
    parts = [params.pop(f"aws_{name}", None) for name in ("access_key_id", "secret_access_key", "session_token")]
    if not any(parts):
        return Cloud("bedrock", address, model, key=params.get("api_key"))
    notes.add(f"{place}.aws_access_key_id", "the access key goes into one variable, as `ID:SECRET`")
    return Cloud("bedrock", address, model, key=f"an access key, {parts[0]}")


def _vertex(model: str, address: Any, params: Fields, noted: tuple[Notes, str]) -> Cloud | None:
    notes, place = noted
    told = {}
    for name in ("project", "location", "credentials"):
        values = [params.pop(f"{prefix}_{name}", None) for prefix in ("vertex", "vertex_ai")]
        told[name] = next((value for value in values if value is not None), None)
    project, location = told["project"], told["location"] or "us-central1"
    if not isinstance(project, str) or project.startswith(ENVIRONMENT):
        notes.add(f"{place}.vertex_project", "is missing, or not written out: left out")
        return None
    if not isinstance(location, str) or location.startswith(ENVIRONMENT):
        notes.add(f"{place}.vertex_location", "is not written out: left out")
        return None
    options = {"project": project, "location": location}
    return Cloud("vertex", address, model, options, told["credentials"], "VERTEX_CREDENTIALS")
