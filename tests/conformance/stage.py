"""The stage of the conformance tests: every recording of provider traffic behind one real gateway.

The project's own recordings are in `goldens/traffic`. Those of real providers are optional material: `traffic/` in the
folder that `PENSTOCK_MATERIAL` names, or in `../shared` beside the repository. They are read once, and each is a
provider and an alias of its own, named by the recording's id.
"""

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

import httpx2
import jsonschema

from penstock.domain.vendors import COMPATIBLE
from penstock.testing.caller import Caller
from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.replay import Recording, ReplayProvider, load_recordings

REPOSITORY = Path(__file__).resolve().parents[2]
MATERIAL = Path(os.environ.get("PENSTOCK_MATERIAL") or REPOSITORY.parent / "shared")

PRICES_NANOUSD = {"input": 1_000, "cache_read": 500, "5m": 1_250, "1h": 2_000, "audio_in": 4_000, "output": 10_000}
"""What a token costs at every recording."""
_PRICE = usd_price(1, 10, cache_read=0.5, cache_write=1.25, cache_write_1h=2, audio_in=4)

CREDENTIAL = "sk-replay-canary-41d8"
AWS_CREDENTIAL = "AKIAREPLAYCANARY00:replay/secret+canary"

SERVED = {
    "anthropic": ("messages", "rawPredict", "streamRawPredict", "messages.count_tokens"),
    "bedrock": ("converse", "converse-stream", "invoke", "invoke-with-response-stream"),
    "cohere": ("v2.chat", "v2.embed", "v2.rerank", "v1.rerank"),
    "google": ("generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"),
    "vertex": ("predict",),
    "openai": ("responses", "responses.input_tokens"),
    "compatible": ("chat.completions", "embeddings", "completions", "moderations"),
}
"""The recorded surfaces, by the kind of provider that serves them where a vendor has no kind of its own."""
_KINDS = {surface: kind for kind, surfaces in SERVED.items() for surface in surfaces}


NOT_SERVED = frozenset(
    (
        *("api.chat", "v1.chat", "interactions", "cachedContents", "ocr", "models", "apply-guardrail"),
        *("count-tokens", "responses.compact"),
        *("audio.speech", "audio.transcriptions", "images.edits", "images.generations"),
    )
)
"""What else was recorded: surfaces that are not replayed here, or that the gateway does not have."""


class Place(NamedTuple):
    """Where a recording stands behind the gateway."""

    kind: str
    model: str
    options: Mapping[str, str] = MappingProxyType({})


def place_of(recording: Recording) -> Place:
    """The vendor's own kind, where it has one that serves the recorded surface, and the model that was asked for: in
    the body, or at Azure and at Bedrock in the address."""
    kind = _KINDS[recording.surface]
    vendor = {"vercel_gateway": "vercel"}.get(recording.provider, recording.provider)
    if kind == "compatible" and vendor != "azure":
        is_listed = vendor in COMPATIBLE and recording.surface in COMPATIBLE[vendor].paths
        return Place(vendor if is_listed else kind, str(recording.request.json.get("model") or "unnamed"))
    if vendor in ("azure", "voyage"):
        kind = vendor
    if recording.surface in SERVED["vertex"]:
        return Place(kind, recording.model or "text-embedding", {"project": "replay"})
    if recording.surface in SERVED["openai"]:
        return Place(kind, "codex-replay")  # served at Responses alone: what other callers say is translated
    return _at_azure(recording) if kind == "azure" else Place(kind, recording.model or "recorded")


def _at_azure(recording: Recording) -> Place:
    version, path = recording.request.query.get("api-version", ""), recording.request.path
    if version and path.startswith("/openai/deployments/"):
        return Place("azure", unquote(path.split("/")[3]), {"api_version": version})
    return Place("azure", recording.model or "unnamed")


def _all_recordings() -> list[Recording]:
    folders = (REPOSITORY / "tests" / "goldens" / "traffic", MATERIAL / "traffic")
    return [recording for folder in folders for recording in load_recordings(folder, _KINDS)]


_RECORDINGS = _all_recordings()


def recordings_of(*surfaces: str) -> list[Recording]:
    """The recordings of these surfaces, the project's own first."""
    return [recording for recording in _RECORDINGS if recording.surface in surfaces]


@cache
def published(schema: str) -> jsonschema.Draft202012Validator:
    """What OpenAI publishes of a type, as a validator."""
    components = json.loads((MATERIAL / "specs" / "openai.openapi.json").read_bytes())["components"]
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": components})


class Stage:
    """The replaying provider and the gateway in front of it. `http`: the client that SDKs call through, because to make
    one costs more than a hundred calls. `elsewhere` is a model of the simulated provider."""

    def __init__(self, directory: Path) -> None:
        self.replay = ReplayProvider(_RECORDINGS)
        self.key = new_secret()
        self.http = httpx2.Client(timeout=60)
        self.async_http = httpx2.AsyncClient(verify=False)
        self.gateway: Gateway
        self._directory = directory
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.replay)
            secrets = {"CALLER_KEY": self.key, "REPLAY_KEY": CREDENTIAL, "AWS_KEY": AWS_CREDENTIAL}
            self.gateway = stack.enter_context(Gateway(self._directory, self._config(), secrets))
            stack.enter_context(self.http)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def caller(self) -> Caller:
        return self.gateway.caller(self.key)

    def _config(self) -> dict[str, Any]:
        providers: list[dict[str, Any]] = [{"name": "elsewhere", "kind": "simulated"}]
        models = [_alias("elsewhere", "elsewhere", "simulated-1")]
        for number, recording in enumerate(_RECORDINGS):
            place, name = place_of(recording), f"provider-{number}"
            key = "env:AWS_KEY" if place.kind == "bedrock" else "env:REPLAY_KEY"
            provider = {"name": name, "kind": place.kind, "base_url": self.replay.base_url(recording.id)}
            providers.append(
                {**provider, "credentials": [{"name": "main", "value": key}], "options": dict(place.options)}
            )
            models.append(_alias(recording.id, name, place.model))
        teams = [{"name": "conformance"}]
        keys = [{"name": "replay", "team": "conformance", "secret": "env:CALLER_KEY"}]
        return {"providers": providers, "models": models, "teams": teams, "keys": keys}


def _alias(name: str, provider: str, model: str) -> dict[str, Any]:
    return {"name": name, "targets": [{"provider": provider, "model": model}], "price": _PRICE}
