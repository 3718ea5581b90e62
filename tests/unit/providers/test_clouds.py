"""How calls go to Google's and Microsoft's clouds: addresses, credentials, bodies."""

import base64
import json
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from msgspec import structs

from penstock.domain.http import HttpRequest, header
from penstock.domain.kept import Errand
from penstock.domain.snapshot import Credential, Provider, Secret
from penstock.providers.azure import Azure
from penstock.providers.base import Outgoing, Vendor
from penstock.providers.bedrock import Bedrock
from penstock.providers.google import Google
from penstock.providers.vertex import Vertex

CREDENTIAL = Credential("main", Secret("key-1"))


def sent(vendor: Vendor, surface: str, base_url: str = "", model: str = "m", **options: str) -> HttpRequest:
    provider = Provider("p", vendor.kind, base_url, (CREDENTIAL,), options=options)
    return vendor.request(provider, CREDENTIAL, Outgoing(surface, b"{}", model))


# -- azure ------------------------------------------------------------------------------------------------------------

AZURE = Azure()


@pytest.mark.parametrize("base_url", ["https://a.openai.azure.com", "https://a.openai.azure.com/openai/v1/"])
def test_azures_v1_api_has_the_deployment_in_the_body(base_url: str) -> None:
    request = sent(AZURE, "chat.completions", base_url, "gpt-4.1")
    assert request.path == "/openai/v1/chat/completions"
    assert header(request.headers, "api-key") == "key-1"


def test_azures_older_api_has_the_deployment_in_the_address() -> None:
    request = sent(AZURE, "embeddings", "https://a.openai.azure.com", "my/../ada", api_version="2024-10-21")
    assert request.path == "/openai/deployments/my%2F..%2Fada/embeddings?api-version=2024-10-21"
    request = sent(AZURE, "completions", "https://a.openai.azure.com", "instruct", api_version="2024-10-21")
    assert request.path == "/openai/deployments/instruct/completions?api-version=2024-10-21"


def test_azure_takes_a_token_of_entra_id() -> None:
    request = sent(AZURE, "chat.completions", "https://a.openai.azure.com", auth="bearer")
    assert header(request.headers, "authorization") == "Bearer key-1"
    assert header(request.headers, "api-key") is None


def test_azure_serves_claude_in_anthropics_dialect() -> None:
    assert AZURE.surfaces("claude-opus-4-5") == ("messages",)
    request = sent(AZURE, "messages", "https://a.services.ai.azure.com", "claude-opus-4-5")
    assert request.path == "/anthropic/v1/messages"
    assert header(request.headers, "anthropic-version") == "2023-06-01"


@pytest.mark.parametrize(("deployment", "first"), [("gpt-4.1", "chat.completions"), ("gpt-5-mini", "responses")])
def test_a_deployment_that_is_named_like_its_model_is_called_like_it(deployment: str, first: str) -> None:
    assert AZURE.surfaces(deployment)[0] == first
    of_responses = {"responses", "responses.compact", "responses.stored"}
    assert set(AZURE.surfaces(deployment)) == {"chat.completions", *of_responses, "completions", "embeddings"}
    assert set(AZURE.surfaces("gpt-5-codex")) == of_responses


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "/openai/v1/responses/resp%2F1/input_items?limit=5"),
        (
            {"api_version": "2025-03-01-preview"},
            "/openai/responses/resp%2F1/input_items?api-version=2025-03-01-preview&limit=5",
        ),
    ],
)
def test_azure_keeps_responses_at_the_address_of_either_api(options: dict[str, str], path: str) -> None:
    provider = Provider("p", "azure", "https://a.openai.azure.com", (CREDENTIAL,), options=options)
    errand = Errand("GET", "resp/1", "input_items", "limit=5")
    request = AZURE.request(provider, CREDENTIAL, Outgoing("responses.stored", b"", "m", errand=errand))
    assert (request.method, request.path) == ("GET", path)


# -- google -----------------------------------------------------------------------------------------------------------


def test_a_models_name_stays_one_segment_of_the_address() -> None:
    request = sent(Google(), "generateContent", model="../x:deleteAll?key=1#")
    assert request.path == "/v1beta/models/..%2Fx%3AdeleteAll%3Fkey%3D1%23:generateContent"
    assert header(request.headers, "x-goog-api-key") == "key-1"


@pytest.mark.parametrize("surface", ["embedContent", "batchEmbedContents"])
def test_google_embeds_at_the_models_own_address(surface: str) -> None:
    request = sent(Google(), surface, model="gemini-embedding-2")
    assert request.path == f"/v1beta/models/gemini-embedding-2:{surface}"
    assert header(request.headers, "x-goog-api-key") == "key-1"


def test_a_stream_is_asked_for_in_the_form_that_the_caller_reads() -> None:
    provider = Provider("p", "google", "")
    for form, end in (("", ":streamGenerateContent?alt=sse"), ("list", ":streamGenerateContent")):
        outgoing = Outgoing("generateContent", b"{}", "m", True, form=form)
        assert Google().request(provider, None, outgoing).path.endswith(end)


# -- vertex -----------------------------------------------------------------------------------------------------------

VERTEX = Vertex()
KEY = rsa.generate_private_key(65537, 2048)


def account(**more: str) -> Credential:
    pem = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    file = {"type": "service_account", "client_email": "a@p.iam", "private_key": pem, "private_key_id": "k1", **more}
    return Credential("main", Secret(json.dumps(file)))


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("us-east5", "us-east5-aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_vertex_has_a_host_for_each_location(location: str, host: str) -> None:
    request = sent(VERTEX, "generateContent", model="gemini-2.5-flash", project="acme", location=location)
    assert request.origin.host == host
    place = f"/v1/projects/acme/locations/{location}/publishers/google/models/gemini-2.5-flash"
    assert request.path == f"{place}:generateContent"
    assert header(request.headers, "authorization") == "Bearer key-1"


@pytest.mark.parametrize(
    ("model", "surfaces"),
    [
        ("gemini-embedding-001", ("batchEmbedContents", "embedContent")),
        ("text-embedding-005", ("predict",)),
        ("text-multilingual-embedding-002", ("predict",)),
        ("gemini-2.5-flash", ("generateContent", "countTokens")),
    ],
)
def test_vertex_embeds_where_the_model_does(model: str, surfaces: tuple[str, ...]) -> None:
    assert VERTEX.surfaces(model) == surfaces
    if len(surfaces) == 1:
        assert sent(VERTEX, "predict", model=model, project="acme").path.endswith(f"/models/{model}:predict")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"model": "models/x", "content": {}}, {"content": {}}),
        ({"content": {}, "title": "t", "new": 1}, {"content": {}, "new": 1, "embedContentConfig": {"title": "t"}}),
        (
            {"content": {}, "taskType": "CLUSTERING", "embedContentConfig": {"title": "t"}},
            {"content": {}, "taskType": "CLUSTERING", "embedContentConfig": {"title": "t"}},
        ),
    ],
)
def test_vertex_has_in_a_configuration_what_ai_studio_has_beside_the_content(said: Any, told: Any) -> None:
    provider = Provider("p", "vertex", "", options={"project": "acme"})

    def body(surface: str, sent: Any) -> Any:
        outgoing = Outgoing(surface, json.dumps(sent).encode(), "gemini-embedding-001")
        return json.loads(VERTEX.request(provider, None, outgoing).body)

    assert body("embedContent", said) == told
    assert body("batchEmbedContents", {"requests": [said, said]}) == {"requests": [told, told]}


# -- embeddings at bedrock --------------------------------------------------------------------------------------------

BEDROCK = Bedrock()


@pytest.mark.parametrize("model", ["cohere.embed-v4:0", "us.cohere.embed-v4:0", "cohere.embed-english-v3"])
def test_coheres_models_at_bedrock_are_told_everything_but_their_name(model: str) -> None:
    assert BEDROCK.surfaces(model) == ("cohere.embed", "invoke.cohere")
    said = b'{"model":"x","texts":["a"],"input_type":"search_query","truncate":"END"}'
    provider = Provider("p", "bedrock", "https://bedrock-runtime.eu-west-1.amazonaws.com")
    request = BEDROCK.request(provider, CREDENTIAL, Outgoing("cohere.embed", said, model))
    assert request.path == f"/model/{quote(model, safe='')}/invoke"
    told = {"texts": ["a"], "input_type": "search_query", "embedding_types": ["float"]}
    assert json.loads(request.body) == {**told, "truncate": "RIGHT" if "v4" in model else "END"}
    own = b'{"texts":["a"],"input_type":"search_query"}'
    assert BEDROCK.request(provider, CREDENTIAL, Outgoing("invoke.cohere", own, model)).body == own


def test_what_a_header_says_was_billed_is_told_in_the_body() -> None:
    outgoing = Outgoing("cohere.embed", b"{}", "cohere.embed-v4:0")
    reframer = BEDROCK.reframer(outgoing, [("x-amzn-bedrock-input-token-count", "7")])
    assert reframer is not None
    told = json.loads(reframer.feed(b'{"embeddings":{"float":[[1]]}}'))
    assert told["meta"] == {"billed_units": {"input_tokens": 7}}
    assert reframer.feed(b'{"message":"no"}') == b'{"message":"no"}'
    for hostile in ("-1", "1e3", "", "9" * 20):
        assert BEDROCK.reframer(outgoing, [("x-amzn-bedrock-input-token-count", hostile)]) is None
    nova = BEDROCK.reframer(
        structs.replace(outgoing, surface="invoke.nova"), [("x-amzn-bedrock-input-token-count", "7")]
    )
    assert nova is not None
    assert json.loads(nova.feed(b'{"embeddings":[]}')) == {"embeddings": [], "inputTokenCount": 7}
    assert json.loads(nova.feed(b'{"embeddings":[],"inputTokenCount":3}'))["inputTokenCount"] == 3
    assert BEDROCK.reframer(outgoing, []) is None
    assert BEDROCK.reframer(Outgoing("invoke.titan", b"{}", "m"), [("x-amzn-bedrock-input-token-count", "7")]) is None


@pytest.mark.parametrize(("streaming", "verb"), [(False, "rawPredict"), (True, "streamRawPredict")])
def test_vertex_takes_claude_with_its_version_in_the_body_and_its_model_in_the_address(
    streaming: bool, verb: str
) -> None:
    assert VERTEX.surfaces("claude-haiku-4-5@20251001") == ("messages", "messages.count_tokens")
    provider = Provider("p", "vertex", "", options={"project": "acme", "location": "us-east5"})
    body = b'{"model":"claude-haiku-4-5@20251001","max_tokens":5,"anthropic_version":"x"}'
    request = VERTEX.request(provider, None, Outgoing("messages", body, "claude-haiku-4-5@20251001", streaming))
    assert request.path.endswith(f"/publishers/anthropic/models/claude-haiku-4-5%4020251001:{verb}")
    assert json.loads(request.body) == {"max_tokens": 5, "anthropic_version": "vertex-2023-10-16"}


def _read(part: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return value


def test_a_service_account_asks_for_a_token_with_what_it_signed() -> None:
    request = VERTEX.token_request(account(), 1_760_000_000.5)
    assert request is not None
    assert (request.origin.host, request.path) == ("oauth2.googleapis.com", "/token")
    form = parse_qs(request.body.decode())
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    head, claims, signature = form["assertion"][0].split(".")
    assert _read(head) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    assert _read(claims) == {
        "iss": "a@p.iam",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": 1_760_000_000,
        "exp": 1_760_003_600,
    }
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    KEY.public_key().verify(raw, f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
    assert VERTEX.token_of(b'{"access_token":"ya29.x","expires_in":1200}') == ("ya29.x", 1200.0)


def test_other_credentials_go_as_they_are() -> None:
    assert VERTEX.token_request(CREDENTIAL, 0.0) is None
    provider = Provider("p", "vertex", "", options={"project": "acme"})
    api_key = Credential("main", Secret("AIzaSy-1"))
    request = VERTEX.request(provider, api_key, Outgoing("generateContent", b"{}", "gemini-x"))
    assert header(request.headers, "x-goog-api-key") == "AIzaSy-1"


@pytest.mark.parametrize("value", ["{}", "{nonsense", '{"client_email": "a", "private_key": "b"}'])
def test_what_is_no_key_of_a_service_account_is_told_so(value: str) -> None:
    with pytest.raises(ValueError):
        VERTEX.token_request(Credential("main", Secret(value)), 0.0)
