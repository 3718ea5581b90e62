"""Google Cloud Vertex AI. Source: Google Cloud, "Vertex AI REST: publishers.models" (`generateContent`,
`streamGenerateContent`, `countTokens`, `embedContent`, `batchEmbedContents`, `predict`, `rawPredict`,
`streamRawPredict`), "Locations", "Use Claude models" (what its body has instead of a model), "Count tokens for Claude
models", "Using OAuth 2.0 for server to server applications"; google-genai 3.6 (Gemini's models embed by `embedContent`
and `batchEmbedContents`, the others by `predict`) (read 2026-11).

Options: `project`, and `location`, which is `global` unless it is told. The model of a target is the publisher's name
for it, Anthropic's where it begins with `claude`, else Google's, unless the publisher goes before it, as in
`anthropic/claude-opus-4-1`. The credential is the JSON of a service account's key, for which access tokens are fetched,
or an access token, or an API key. The reference does not say that closing a stream stops the bill.
"""

import base64
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from msgspec import Raw, Struct

from penstock.dialects.base import decode_reply, encode_object, members_of
from penstock.domain.http import Headers, HttpRequest, Origin
from penstock.domain.snapshot import Credential, Provider
from penstock.providers.base import NONE_MARKED, Outgoing, StopsBilling, origin_of
from penstock.providers.google import method

ANTHROPIC_VERSION = "vertex-2023-10-16"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_LIFETIME_S = 3600
_MULTI_REGIONS = ("us", "eu")
_COUNTED = ("contents", "systemInstruction", "tools", "generationConfig")
"""What `countTokens` takes of a request."""


class ServiceAccount(Struct, frozen=True):
    """The members of a key file that are used. Source: "Create and delete service account keys"."""

    client_email: str
    private_key: str
    private_key_id: str = ""
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105  an address


class _Token(Struct):
    access_token: str
    expires_in: int = TOKEN_LIFETIME_S


class _Batch(Struct):
    requests: list[dict[str, Raw]]


_requests_decoder = msgspec.json.Decoder(_Batch)
_account_decoder = msgspec.json.Decoder(ServiceAccount)
_token_decoder = msgspec.json.Decoder(_Token)


class Vertex:
    kind = "vertex"
    cancel_stops_billing: StopsBilling = "unknown"
    asks_usage = False
    marks_end = NONE_MARKED
    forwards = frozenset({"anthropic-beta"})

    def surfaces(self, model: str) -> tuple[str, ...]:
        if _publisher(model)[0] == "anthropic":
            return ("messages", "messages.count_tokens")
        if "embedding" in model:
            return ("batchEmbedContents", "embedContent") if "gemini" in model else ("predict",)
        return ("generateContent", "countTokens")

    def output_cap_field(self, surface: str) -> str:
        return "max_tokens" if surface == "messages" else "maxOutputTokens"

    def request(self, provider: Provider, credential: Credential | None, outgoing: Outgoing) -> HttpRequest:
        project, location = provider.options.get("project", ""), provider.options.get("location", "global")
        origin, root = _root(provider.base_url, location)
        publisher, model = _publisher(outgoing.model)
        place = f"{root}/v1/projects/{quote(project, safe='')}/locations/{quote(location, safe='')}"
        body, verb = outgoing.body, method(outgoing)
        if outgoing.surface == "messages":
            verb = "streamRawPredict" if outgoing.streaming else "rawPredict"
            body = _claude_body(body)
        elif outgoing.surface == "messages.count_tokens":
            model, verb, body = "count-tokens", "rawPredict", _claude_body(body, model)
        elif outgoing.surface == "countTokens":
            body = _counted_body(body)
        elif outgoing.surface == "embedContent":
            body = encode_object(_embedded(members_of(body)))
        elif outgoing.surface == "batchEmbedContents":
            body = _batch_body(body)
        path = f"{place}/publishers/{publisher}/models/{quote(model, safe='')}:{verb}"
        return HttpRequest("POST", origin, path, _headers(provider, credential), body, provider.timeouts)

    def token_request(self, credential: Credential, now_s: float) -> HttpRequest | None:
        """Asks for an access token of a service account; None where the credential goes as it is. Raises `ValueError`
        for a key file that is none."""
        account = _account(credential)
        if account is None:
            return None
        form = urlencode({"grant_type": GRANT, "assertion": _assertion(account, int(now_s))})
        origin, path = origin_of(account.token_uri)
        fields: Headers = [("content-type", "application/x-www-form-urlencoded")]
        return HttpRequest("POST", origin, path or "/", fields, form.encode(), repeatable=True)

    def token_of(self, body: bytes) -> tuple[str, float]:
        """The token in the answer, and its lifetime in seconds. Raises `UpstreamMalformed`."""
        token = decode_reply(_token_decoder, body)
        return token.access_token, float(token.expires_in)


def _publisher(model: str) -> tuple[str, str]:
    """`(publisher, model)`."""
    before, slash, after = model.partition("/")
    if slash:
        return quote(before, safe=""), after
    return ("anthropic" if model.startswith("claude") else "google"), model


@lru_cache(maxsize=1024)
def _root(base_url: str, location: str) -> tuple[Origin, str]:
    if base_url:
        return origin_of(base_url)
    host = "aiplatform.googleapis.com"
    if location in _MULTI_REGIONS:
        host = f"aiplatform.{location}.rep.googleapis.com"
    elif location != "global":
        host = f"{location}-{host}"
    return Origin("https", host, 443), ""


def _claude_body(body: bytes, counted: str = "") -> bytes:
    """The body of a Messages request as Vertex takes it: the model is in the address, the version in the body. Where
    its tokens are `counted`, the address is that of the count, and the body names the model."""
    fields: dict[str, Any] = dict(members_of(body))
    fields.pop("model", None)
    named = {"model": counted} if counted else {}
    return encode_object({**fields, **named, "anthropic_version": ANTHROPIC_VERSION})


def _counted_body(body: bytes) -> bytes:
    """What AI Studio takes as a request inside of the request is the request itself here, without what is no part of
    the prompt."""
    fields = members_of(body)
    if "generateContentRequest" not in fields:
        return body
    inside = members_of(bytes(fields["generateContentRequest"]))
    return encode_object({name: inside[name] for name in _COUNTED if name in inside})


_OF_AN_EMBEDDING = ("taskType", "title", "outputDimensionality", "autoTruncate")
"""What AI Studio has beside the content to embed, and Vertex in a configuration."""


def _embedded(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request for an embedding as Vertex takes it, without the model, which is in the address."""
    own = {name: value for name, value in request.items() if name != "model"}
    config = {name: own.pop(name) for name in _OF_AN_EMBEDDING if name in own and "embedContentConfig" not in request}
    return {**own, "embedContentConfig": config} if config else own


def _batch_body(body: bytes) -> bytes:
    requests = decode_reply(_requests_decoder, body).requests
    return encode_object({"requests": [_embedded(request) for request in requests]})


def _headers(provider: Provider, credential: Credential | None) -> Headers:
    """The operator's headers, then ours: the credential is never overridden."""
    fields: Headers = [(name.lower(), value) for name, value in provider.headers.items()]
    fields.append(("content-type", "application/json"))
    if credential is not None:
        value = credential.value.reveal()
        fields.append(("x-goog-api-key", value) if value.startswith("AIza") else ("authorization", f"Bearer {value}"))
    return fields


def _account(credential: Credential) -> ServiceAccount | None:
    value = credential.value.reveal().strip()
    if not value.startswith("{"):
        return None
    try:
        account = _account_decoder.decode(value)
    except msgspec.DecodeError:
        raise ValueError("not the key of a service account") from None
    if urlsplit(account.token_uri).scheme not in ("https", "http"):
        raise ValueError("not the key of a service account")
    return account


def _assertion(account: ServiceAccount, now_s: int) -> str:
    """What the account signs to be given a token (RFC 7523)."""
    head = {"alg": "RS256", "typ": "JWT", "kid": account.private_key_id}
    claims = {"iss": account.client_email, "scope": SCOPE, "aud": account.token_uri}
    claims |= {"iat": now_s, "exp": now_s + TOKEN_LIFETIME_S}  # type: ignore[dict-item]
    signed = f"{_packed(head)}.{_packed(claims)}"
    signature = _signature(account.private_key, signed.encode())
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _signature(pem: str, data: bytes) -> bytes:
    """RS256 (RFC 7518, 3.3). The library is loaded where it is used, so that only a worker that has a service account
    pays for it."""
    primitives = "cryptography.hazmat.primitives"
    serialization, hashes = import_module(f"{primitives}.serialization"), import_module(f"{primitives}.hashes")
    padding, rsa = (import_module(f"{primitives}.asymmetric.{name}") for name in ("padding", "rsa"))
    refused = import_module("cryptography.exceptions").UnsupportedAlgorithm
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (TypeError, refused):
        raise ValueError("not the key of a service account") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("not the key of a service account")  # noqa: TRY004  it is one of the wrong kind
    signature: bytes = key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return signature


def _packed(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode().rstrip("=")
