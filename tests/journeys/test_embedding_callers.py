"""Every caller of embeddings reaches every vendor that makes them: the vendors' own clients before a real gateway, and
scripted vendors behind it, each in its own dialect."""

import asyncio
import json
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import unquote

import boto3
import botocore.config
import cohere
import httpx
import openai
import pytest
from google import genai
from google.genai import types

from penstock.testing.caller import Answer
from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.wire import Reply, WireServer, eventually

KEY, POOR = new_secret(), new_secret()
TOKENS = 3
"""What each input is billed as, at any vendor."""
EACH_NANOUSD = TOKENS * 1_000
JSON = ("content-type", "application/json")

TARGETS = {
    "at-openai": ("shape", "text-embedding-3-small"),
    "at-google": ("studio", "gemini-embedding-2"),
    "at-vertex": ("cloud", "gemini-embedding-001"),
    "at-vertex-text": ("cloud", "text-embedding-005"),
    "at-cohere": ("maker", "embed-v4.0"),
    "at-titan": ("aws", "amazon.titan-embed-text-v2:0"),
    "at-nova": ("aws", "amazon.nova-2-multimodal-embeddings-v1:0"),
    "at-bedrock-cohere": ("aws", "cohere.embed-v4:0"),
}


def vector(text: str) -> list[float]:
    """0.1 is no 32-bit float, and the length tells one text from another."""
    return [0.1, -0.25, float(len(text))]


def as_32_bits(numbers: list[float]) -> list[float]:
    return list(struct.unpack(f"<{len(numbers)}f", struct.pack(f"<{len(numbers)}f", *numbers)))


class Makers(WireServer):
    """Answers as the vendor at the path does, from when so many calls are under way `together`. `spoil`: what becomes
    of the answer to the text of that name."""

    def __init__(self) -> None:
        super().__init__()
        self.spoil: dict[str, str] = {}
        self.open_calls = self.most_open = self.together = 0
        self.met = asyncio.Event()

    def begin(self, together: int = 0, **spoil: str) -> None:
        self.received.clear()
        self.spoil, self.most_open, self.together = spoil, 0, together
        self.met = asyncio.Event()

    async def answer(self, reply: Reply) -> None:
        asked, path = reply.received.json(), unquote(reply.received.path)
        self.open_calls += 1
        self.most_open = max(self.most_open, self.open_calls)
        try:
            if self.open_calls >= self.together:
                self.met.set()
            await self.met.wait()
            texts, told, headers = _made(path, asked)
            fault = next((self.spoil[text] for text in texts if text in self.spoil), "")
            if fault.isdigit():
                error = {"error": {"code": int(fault), "message": "not so"}, "message": "not so"}
                await reply.whole(int(fault), [JSON], json.dumps(error).encode())
            elif fault:
                await reply.whole(200, [JSON], fault.encode())
            else:
                await reply.whole(200, [JSON, *headers], json.dumps(told).encode())
        finally:
            self.open_calls -= 1


def _made(path: str, asked: dict[str, Any]) -> tuple[list[str], dict[str, Any], list[tuple[str, str]]]:
    """The texts of a request, and the vendor's answer."""
    if path.endswith("/embeddings"):
        texts = [asked["input"]] if isinstance(asked["input"], str) else list(map(str, asked["input"]))
        rows = [
            {"object": "embedding", "index": at, "embedding": _coded(vector(text), asked)}
            for at, text in enumerate(texts)
        ]
        used = {"prompt_tokens": TOKENS * len(texts), "total_tokens": TOKENS * len(texts)}
        return texts, {"object": "list", "data": rows[::-1], "model": "maker", "usage": used}, []
    if path.endswith("mbedContents") or path.endswith("embedContent"):
        contents = [one["content"] for one in asked.get("requests", [asked])]
        texts = ["".join(part.get("text", "") for part in content["parts"]) for content in contents]
        made = [{"values": vector(text)} for text in texts]
        told = {"embeddings": made} if "requests" in asked else {"embedding": made[0]}
        return texts, {**told, "usageMetadata": {"promptTokenCount": TOKENS * len(texts)}}, []
    if path.endswith(":predict"):
        texts = [one["content"] for one in asked["instances"]]
        made = [{"values": vector(text), "statistics": {"truncated": False, "token_count": TOKENS}} for text in texts]
        return texts, {"predictions": [{"embeddings": one} for one in made]}, []
    if "inputText" in asked:
        text = asked["inputText"]
        return [text], {"embedding": vector(text), "inputTextTokenCount": TOKENS}, []
    if "singleEmbeddingParams" in asked:
        text = asked["singleEmbeddingParams"].get("text", {}).get("value", "")
        told = {"embeddings": [{"embeddingType": "TEXT", "embedding": vector(text)}]}
        return [text], told, [("x-amzn-bedrock-input-token-count", str(TOKENS))]
    texts = asked.get("texts") or ["".join(p.get("text", "") for p in one["content"]) for one in asked["inputs"]]
    told = {"id": "made", "texts": texts, "response_type": "embeddings_by_type"}
    told["embeddings"] = {kind: [vector(text) for text in texts] for kind in asked.get("embedding_types", ["float"])}
    if "/model/" in path:
        return texts, told, [("x-amzn-bedrock-input-token-count", str(TOKENS * len(texts)))]
    return texts, {**told, "meta": {"billed_units": {"input_tokens": TOKENS * len(texts)}}}, []


def _coded(numbers: list[float], asked: dict[str, Any]) -> Any:
    return b64encode(struct.pack("<3f", *numbers)).decode() if asked.get("encoding_format") == "base64" else numbers


Stage = tuple[Makers, Gateway]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Makers() as makers:
        origin, keys = makers.origin, [{"name": "main", "value": "env:LAB_KEY"}]
        kinds = {
            "shape": {"kind": "openai", "base_url": f"{origin}/v1"},
            "studio": {"kind": "google", "base_url": f"{origin}/v1beta"},
            "cloud": {"kind": "vertex", "base_url": origin, "options": {"project": "acme", "location": "us-east5"}},
            "maker": {"kind": "cohere", "base_url": origin},
            "aws": {"kind": "bedrock", "base_url": origin},
            "talker": {"kind": "anthropic", "base_url": origin},
        }
        aliases = {name: [target] for name, target in TARGETS.items()}
        aliases["at-anthropic"] = [("talker", "claude-haiku-4-5")]
        aliases["titan-or-openai"] = [TARGETS["at-titan"], TARGETS["at-openai"]]
        config = {
            "providers": [{"name": name, "credentials": keys, **kind} for name, kind in kinds.items()],
            "models": [
                {
                    "name": name,
                    "targets": [{"provider": provider, "model": model} for provider, model in targets],
                    "price": usd_price(1, 0),
                }
                for name, targets in aliases.items()
            ],
            "teams": [{"name": "growth"}, {"name": "thrifty"}],
            "keys": [
                {"name": "ci", "team": "growth", "secret": "env:CI_KEY"},
                {"name": "poor", "team": "thrifty", "secret": "env:POOR_KEY"},
            ],
            "limits": [
                {"name": "purse", "match": {"team": "growth"}, "unit": "usd", "amount": 10, "per": "day"},
                {"name": "crumbs", "match": {"team": "thrifty"}, "unit": "usd", "amount": 0.0002, "per": "day"},
            ],
        }
        environment = {"LAB_KEY": "sk-lab", "CI_KEY": KEY, "POOR_KEY": POOR}
        with Gateway(tmp_path_factory.mktemp("embeddings"), config, environment) as gateway:
            yield makers, gateway


@pytest.fixture(autouse=True)
def settled(stage: Stage) -> Iterator[None]:
    """Whatever happens in a test, nothing stays held."""
    stage[0].begin()
    yield
    eventually(lambda: stage[1].held() == 0, 5, "nothing is held")


def _ask(gateway: Gateway, model: str, given: Any, key: str = KEY, **more: Any) -> Answer:
    headers = more.pop("headers", None)
    return gateway.caller(key).post("/v1/embeddings", {"model": model, "input": given, **more}, headers)


def _settled(gateway: Gateway, request_id: str, count: int) -> None:
    receipt = gateway.receipt(request_id)
    assert receipt["usage"]["input"] == TOKENS * count
    assert receipt["cost_nanousd"] == EACH_NANOUSD * count
    assert (receipt["cost_basis"], receipt["cause"], receipt["usage"]["requests"]) == ("computed", "completed", 1)


# -- the vendors' own clients -----------------------------------------------------------------------------------------

TEXTS = ["one", "three"]


def test_openais_client_gets_its_base64_from_every_vendor(stage: Stage) -> None:
    makers, gateway = stage
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        for model in TARGETS:
            makers.begin()
            raw = client.embeddings.with_raw_response.create(model=model, input=TEXTS)
            told = raw.parse()
            assert b"base64" in raw.http_request.content
            made = {row.index: row.embedding for row in told.data}
            assert made == {at: as_32_bits(vector(text)) for at, text in enumerate(TEXTS)}
            assert told.usage.prompt_tokens == told.usage.total_tokens == 2 * TOKENS
            assert len(makers.received) == (2 if model in ("at-titan", "at-nova") else 1)
            _settled(gateway, raw.headers["x-request-id"], 2)


def test_googles_client_gets_embeddings_from_every_vendor(stage: Stage) -> None:
    _, gateway = stage
    with genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=gateway.url)) as client:
        for model in TARGETS:
            told = client.models.embed_content(model=model, contents=list(TEXTS))
            assert told.embeddings is not None
            assert [one.values for one in told.embeddings] == [vector(text) for text in TEXTS]
            assert told.usage_metadata is not None
            assert told.usage_metadata.prompt_token_count == 2 * TOKENS


def test_coheres_client_gets_embeddings_from_every_vendor(stage: Stage) -> None:
    _, gateway = stage
    with httpx.Client() as http:
        client = cohere.ClientV2(api_key=KEY, base_url=f"{gateway.url}/cohere", httpx_client=http)
        for model in TARGETS:
            raw = client.with_raw_response.embed(model=model, texts=TEXTS, input_type="search_query")
            assert raw.data.embeddings.float_ == [vector(text) for text in TEXTS]
            assert raw.data.meta is not None
            assert raw.data.meta.billed_units is not None
            assert raw.data.meta.billed_units.input_tokens == 2 * TOKENS
            assert raw.data.id
            _settled(gateway, raw.headers["x-request-id"], 2)


def test_amazons_client_gets_embeddings_from_every_vendor_in_every_body_that_it_may_send(stage: Stage) -> None:
    _, gateway = stage
    with closing(_aws(gateway)) as client:
        for model in TARGETS:
            told = client.invoke_model(modelId=model, body=json.dumps({"inputText": "three"}))
            body = json.loads(told["body"].read())
            assert (body["embedding"], body["inputTextTokenCount"]) == (vector("three"), TOKENS)
            _settled(gateway, told["ResponseMetadata"]["HTTPHeaders"]["x-request-id"], 1)
            params = {"embeddingPurpose": "TEXT_RETRIEVAL", "text": {"truncationMode": "END", "value": "three"}}
            told = client.invoke_model(modelId=model, body=json.dumps({"singleEmbeddingParams": params}))
            (made,) = json.loads(told["body"].read())["embeddings"]
            assert made == {"embeddingType": "TEXT", "embedding": vector("three")}
            _settled(gateway, told["ResponseMetadata"]["HTTPHeaders"]["x-request-id"], 1)
            asked = {"texts": TEXTS, "input_type": "search_query", "embedding_types": ["float"]}
            told = client.invoke_model(modelId=model, body=json.dumps(asked))
            assert json.loads(told["body"].read())["embeddings"] == {"float": [vector(text) for text in TEXTS]}
            _settled(gateway, told["ResponseMetadata"]["HTTPHeaders"]["x-request-id"], 2)


def _aws(gateway: Gateway) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=f"{gateway.url}/bedrock",
        config=botocore.config.Config(retries={"max_attempts": 1}),
        aws_access_key_id=KEY,
        aws_secret_access_key="not looked at",
    )


# -- what a request says ----------------------------------------------------------------------------------------------


def test_each_vendor_is_told_in_its_own_words_what_the_vectors_are_for_and_how_long_they_are(stage: Stage) -> None:
    makers, gateway = stage
    more = {"input_type": "search_query", "dimensions": 256, "truncate": "NONE", "user": "u-1"}
    said = {}
    for model in TARGETS:
        makers.begin()
        answer = _ask(gateway, model, "three", **more)
        assert answer.json()["data"][0]["embedding"] == vector("three")
        said[model] = (makers.received[0].json(), answer.headers.get("x-penstock-dropped", ""))
    google = {"content": {"parts": [{"text": "three"}]}}
    asked, dropped = said["at-google"]
    named = {"model": "models/gemini-embedding-2", "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 256}
    assert (asked, dropped) == ({"requests": [{**google, **named}]}, "truncate,user")
    asked, dropped = said["at-vertex"]
    config = {"taskType": "RETRIEVAL_QUERY", "outputDimensionality": 256}
    assert (asked, dropped) == ({"requests": [{**google, "embedContentConfig": config}]}, "truncate,user")
    asked, dropped = said["at-vertex-text"]
    assert asked["instances"] == [{"content": "three", "task_type": "RETRIEVAL_QUERY"}]
    assert (asked["parameters"], dropped) == ({"outputDimensionality": 256, "autoTruncate": False}, "user")
    asked, dropped = said["at-cohere"]
    of_cohere = {"texts": ["three"], "input_type": "search_query", "embedding_types": ["float"]}
    assert asked == {"model": "embed-v4.0", **of_cohere, "output_dimension": 256, "truncate": "NONE"}
    assert dropped == "user"
    assert said["at-bedrock-cohere"][0] == {**of_cohere, "output_dimension": 256, "truncate": "NONE"}
    assert said["at-titan"] == ({"inputText": "three", "dimensions": 256}, "input_type,truncate,user")
    nova = {"embeddingPurpose": "GENERIC_RETRIEVAL", "embeddingDimension": 256}
    asked, dropped = said["at-nova"]
    nova["text"] = {"truncationMode": "NONE", "value": "three"}
    assert (asked, dropped) == ({"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": nova}, "user")
    assert said["at-openai"] == ({"model": "text-embedding-3-small", "input": "three", **more}, "")


def test_what_a_vendor_cannot_be_told_is_refused_where_the_caller_wants_all_or_nothing(stage: Stage) -> None:
    makers, gateway = stage
    strict = {"x-penstock-strict": "true"}
    answer = _ask(gateway, "at-titan", "three", input_type="search_query", headers=strict)
    assert (answer.status, answer.error["code"]) == (400, "unsupported_by_target")
    assert "input_type" in answer.error["message"]
    assert _ask(gateway, "at-titan", "three", dimensions=256, headers=strict).status == 200
    assert len(makers.received) == 1


def test_titles_and_purposes_of_googles_callers_arrive(stage: Stage) -> None:
    makers, gateway = stage
    body = {"content": {"parts": [{"text": "three"}]}, "taskType": "RETRIEVAL_DOCUMENT", "title": "Numbers"}
    answer = gateway.caller(KEY).post("/v1beta/models/at-vertex-text:embedContent", body)
    assert answer.json()["embedding"]["values"] == vector("three")
    instance = {"content": "three", "task_type": "RETRIEVAL_DOCUMENT", "title": "Numbers"}
    assert makers.received[0].json()["instances"] == [instance]
    gateway.caller(KEY).post("/v1beta/models/at-cohere:embedContent", body)
    assert makers.received[1].json()["input_type"] == "search_document"


def test_what_google_is_asked_by_its_own_callers_goes_as_it_is(stage: Stage) -> None:
    makers, gateway = stage
    content = {"parts": [{"text": "three"}]}
    body = {"content": content, "task_type": "QUESTION_ANSWERING", "new_member": [1]}
    gateway.caller(KEY).post("/v1beta/models/at-google:embedContent", body)
    assert makers.received[0].json() == {"content": content, "taskType": "QUESTION_ANSWERING", "newMember": [1]}
    assert makers.received[0].path == "/v1beta/models/gemini-embedding-2:embedContent"
    gateway.caller(KEY).post("/v1beta/models/at-vertex:embedContent", body)
    config = {"taskType": "QUESTION_ANSWERING"}
    assert makers.received[1].json() == {"content": content, "embedContentConfig": config, "newMember": [1]}


def test_token_numbers_go_where_they_mean_something(stage: Stage) -> None:
    makers, gateway = stage
    for model in [name for name in TARGETS if name != "at-openai"]:
        answer = _ask(gateway, model, [[1, 2], [3]])
        assert (answer.status, answer.error["code"]) == (400, "unsupported_by_target")
        assert "token numbers" in answer.error["message"]
    assert not makers.received
    assert _ask(gateway, "titan-or-openai", [[1, 2], [3]]).status == 200
    assert makers.received[0].json()["input"] == [[1, 2], [3]]


def test_pictures_go_to_who_can_see_them(stage: Stage) -> None:
    makers, gateway = stage
    picture = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    body = {"requests": [{"content": {"parts": [{"text": "three"}, picture]}}]}
    asked = "/v1beta/models/{}:batchEmbedContents"
    assert gateway.caller(KEY).post(asked.format("at-cohere"), body).status == 200
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert makers.received[0].json()["inputs"] == [{"content": [{"type": "text", "text": "three"}, url]}]
    mixed = {"input_type": "search_document", "inputs": [{"content": [{"type": "text", "text": "three"}, url]}]}
    assert gateway.caller(KEY).post("/cohere/v2/embed", {"model": "at-google", **mixed}).status == 200
    assert makers.received[1].json()["requests"][0]["content"]["parts"] == [{"text": "three"}, picture]
    for model in ("at-titan", "at-openai", "at-vertex-text"):
        refused = gateway.caller(KEY).post(asked.format(model), body)
        assert (refused.status, refused.headers["x-penstock-error"]) == (400, "unsupported_by_target")
    assert len(makers.received) == 2


def test_types_that_only_cohere_makes_come_from_cohere_alone(stage: Stage) -> None:
    makers, gateway = stage
    body = {"texts": ["three"], "input_type": "clustering", "embedding_types": ["float", "int8", "base64"]}
    told = gateway.caller(KEY).post("/cohere/v2/embed", {"model": "at-bedrock-cohere", **body})
    assert set(told.json()["embeddings"]) == {"float", "int8", "base64"}
    assert makers.received[0].json() == body
    told = gateway.caller(KEY).post("/cohere/v2/embed", {"model": "at-google", **body})
    assert told.headers["x-penstock-dropped"] == "embedding_types.int8"
    (coded,) = told.json()["embeddings"]["base64"]
    assert list(struct.unpack("<3f", b64decode(coded))) == as_32_bits(vector("three"))
    body["embedding_types"] = ["ubinary"]
    refused = gateway.caller(KEY).post("/cohere/v2/embed", {"model": "at-google", **body})
    assert refused.status == 400 and "float and base64" in refused.json()["message"]


def test_who_makes_no_embeddings_says_so(stage: Stage) -> None:
    answer = _ask(stage[1], "at-anthropic", "three")
    assert (answer.status, answer.error["code"]) == (400, "unsupported_by_target")
    assert answer.error["message"] == "The model's provider makes no embeddings."


# -- several calls ----------------------------------------------------------------------------------------------------


def test_many_inputs_of_a_vendor_that_takes_one_are_as_many_calls_on_one_hold(stage: Stage) -> None:
    makers, gateway = stage
    makers.begin(together=8)
    texts = ["x" * (number + 1) for number in range(30)]
    answer = _ask(gateway, "at-titan", texts, encoding_format="float")
    assert [row["embedding"] for row in answer.json()["data"]] == [vector(text) for text in texts]
    assert answer.json()["usage"]["prompt_tokens"] == TOKENS * 30
    assert (len(makers.received), answer.headers["x-penstock-attempts"]) == (30, "30")
    assert makers.most_open == 8
    _settled(gateway, answer.request_id, 30)
    assert [row["cost_nanousd"] for row in gateway.receipt(answer.request_id)["attempts"]] == [EACH_NANOUSD] * 30


def test_more_inputs_than_a_vendor_takes_in_one_call_go_in_several(stage: Stage) -> None:
    makers, gateway = stage
    texts = ["x" * (number % 7 + 1) for number in range(250)]
    answer = _ask(gateway, "at-google", texts)
    assert [row["embedding"] for row in answer.json()["data"]] == [vector(text) for text in texts]
    assert sorted(len(call.json()["requests"]) for call in makers.received) == [50, 100, 100]
    _settled(gateway, answer.request_id, 250)


def test_too_many_inputs_are_refused_before_anything_is_sent(stage: Stage) -> None:
    makers, gateway = stage
    answer = _ask(gateway, "at-titan", ["x"] * 97)
    assert (answer.status, answer.error["code"]) == (400, "unsupported_by_target")
    assert "at most 96 inputs" in answer.error["message"]
    assert not makers.received


def test_all_calls_are_held_for_before_the_first_is_sent(stage: Stage) -> None:
    """One call fits what the team has, ten do not."""
    makers, gateway = stage
    assert _ask(gateway, "at-titan", ["x" * 20], POOR).status == 200
    answer = _ask(gateway, "at-titan", ["x" * 20] * 10, POOR)
    assert (answer.status, len(makers.received)) == (429, 1)


def test_one_refusal_is_the_answer_and_what_the_others_used_is_paid(stage: Stage) -> None:
    makers, gateway = stage
    makers.begin(bad="429")
    answer = _ask(gateway, "at-titan", ["one", "two", "bad", "four"])
    assert (answer.status, answer.error["message"]) == (429, "not so")
    receipt = gateway.receipt(answer.request_id)
    assert (receipt["cause"], len(receipt["attempts"])) == ("failed", 4)
    assert sum(row["cost_nanousd"] for row in receipt["attempts"]) == receipt["cost_nanousd"]


# -- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("at-google", '{"embeddings": []}'),
        ("at-google", '{"embeddings": [{"values": [1]}, {"values": [2]}]}'),
        ("at-google", '{"embeddings": [{"values": [1, null]}]}'),
        ("at-google", '{"embeddings": [{"values": {}}]}'),
        ("at-google", '{"embeddings": [{"values": []}]}'),
        ("at-google", '{"embeddings": 7, "usageMetadata": {"promptTokenCount": 3}}'),
        ("at-google", '{"embeddings": [{"values": [1e300]}]}'),
        ("at-vertex-text", '{"predictions": [{"embeddings": {}}]}'),
        ("at-cohere", '{"embeddings": {"int8": [[1]]}}'),
        ("at-cohere", "not JSON"),
        ("at-titan", "[]"),
        ("at-titan", '{"inputTextTokenCount": 3}'),
        ("at-bedrock-cohere", "\xff"),
    ],
)
def test_an_answer_that_is_none_is_a_typed_error_and_settles(stage: Stage, model: str, told: str) -> None:
    makers, gateway = stage
    makers.begin(bad=told)
    answer = _ask(gateway, model, "bad", encoding_format="base64")
    assert (answer.status, answer.headers["x-penstock-error"]) == (502, "upstream_malformed")
    receipt, is_reported = gateway.receipt(answer.request_id), "Count" in told
    assert (receipt["cause"], receipt["cost_basis"]) == ("failed", "computed" if is_reported else "estimated")
    assert not is_reported or receipt["cost_nanousd"] == EACH_NANOUSD


@pytest.mark.parametrize(
    ("model", "status"),
    [("at-google", "400"), ("at-cohere", "404"), ("at-titan", "429"), ("at-bedrock-cohere", "500")],
)
def test_a_vendors_refusal_is_told_in_the_callers_words(stage: Stage, model: str, status: str) -> None:
    makers, gateway = stage
    makers.begin(bad=status)
    answer = _ask(gateway, model, "bad")
    assert (str(answer.status), answer.error["message"]) == (status, "not so")
    assert gateway.receipt(answer.request_id)["cost_nanousd"] == 0
    told = gateway.caller(KEY).post("/cohere/v2/embed", {"model": model, "texts": ["bad"], "input_type": "clustering"})
    assert (str(told.status), told.json()["message"]) == (status, "not so")


def test_what_no_usage_is_told_of_is_charged_and_told_as_an_estimate(stage: Stage) -> None:
    makers, gateway = stage
    makers.begin(bare='{"embedding": {"values": [0.5]}}')
    answer = _ask(gateway, "at-google", "bare")
    assert answer.json()["data"][0]["embedding"] == [0.5]
    receipt = gateway.receipt(answer.request_id)
    assert receipt["cost_basis"] == "estimated"
    assert receipt["usage"]["input"] == answer.json()["usage"]["prompt_tokens"] > 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "at-cohere", "input": "x", "encoding_format": "hex"}),
        ("/v1/embeddings", {"model": "at-cohere", "input": "x", "dimensions": "many"}),
        ("/cohere/v2/embed", {"model": "at-google", "input_type": "clustering"}),
        ("/cohere/v2/embed", {"model": "at-google", "texts": "x", "input_type": "clustering"}),
        ("/cohere/v2/embed", {"model": "at-google", "inputs": [{"content": []}]}),
        ("/v1beta/models/at-cohere:embedContent", {}),
        ("/v1beta/models/at-cohere:embedContent", {"content": 7}),
        ("/v1beta/models/at-cohere:embedContent", {"content": {"parts": []}}),
        ("/v1beta/models/at-cohere:batchEmbedContents", {"requests": []}),
        ("/v1beta/models/at-cohere:batchEmbedContents", {"requests": [{"content": {"parts": [7]}}]}),
        ("/bedrock/model/at-cohere/invoke", {"inputText": 7}),
        ("/bedrock/model/at-cohere/invoke", {"prompt": "x"}),
        ("/bedrock/model/at-cohere/invoke-with-response-stream", {"inputText": "x"}),
    ],
)
def test_what_is_no_request_is_refused(stage: Stage, path: str, body: dict[str, Any]) -> None:
    makers, gateway = stage
    answer = gateway.caller(KEY).post(path, body)
    assert (answer.status, answer.headers["x-penstock-error"]) == (400, "invalid_request")
    assert not makers.received
