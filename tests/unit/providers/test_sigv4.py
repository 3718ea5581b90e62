"""Signature Version 4 against AWS's published test suite, and against the signer of the AWS SDK for any request."""

import datetime
from unittest import mock

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.http import Headers
from penstock.providers.sigv4 import AccessKey, Scope, sign

KEY = AccessKey("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SUITE = Scope("us-east-1", "service")
NOON = datetime.datetime(2015, 8, 30, 12, 36, tzinfo=datetime.UTC).timestamp()
HOST: Headers = [("host", "example.amazonaws.com")]


@pytest.mark.parametrize(
    ("method", "path", "signature"),
    [
        ("GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("GET", "/?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ],
)
def test_the_signatures_are_those_of_the_published_suite(method: str, path: str, signature: str) -> None:
    added = dict(sign((method, path, HOST, b""), KEY, SUITE, NOON))
    assert added["x-amz-date"] == "20150830T123600Z"
    assert added["authorization"].endswith(f"SignedHeaders=host;x-amz-date, Signature={signature}")


@given(
    st.sampled_from(["amazon.nova-lite-v1%3A0", "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aprompt%2Fx", "plain"]),
    st.binary(max_size=40),
    st.sampled_from(["", "session-token=="]),
    st.integers(0, 4_000_000_000),
)
def test_a_request_is_signed_as_the_sdk_signs_it(model: str, body: bytes, token: str, now_s: int) -> None:
    path, key = f"/model/{model}/converse", AccessKey("AKIAEXAMPLE", "s3cr3t", token)
    headers: Headers = [("content-type", "application/json"), ("host", "bedrock-runtime.eu-west-1.amazonaws.com")]
    ours = dict(sign(("POST", path, headers, body), key, Scope("eu-west-1", "bedrock"), now_s))
    request = AWSRequest("POST", f"https://bedrock-runtime.eu-west-1.amazonaws.com{path}", dict(headers), body)
    moment = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
    with mock.patch("botocore.auth.get_current_datetime", return_value=moment.replace(tzinfo=None)):
        SigV4Auth(Credentials(key.id, key.secret, token or None), "bedrock", "eu-west-1").add_auth(request)
    assert ours["authorization"] == request.headers["Authorization"]
    assert ours.get("x-amz-security-token") == request.headers.get("X-Amz-Security-Token")
