"""Bedrock's Converse, the wire language of `POST /model/{modelId}/converse` and `/converse-stream`.

Owns: reading a Converse request for what it may cost, reading usage and ends from answers and from binary event streams
(`wire`), and the translation of requests, answers and streams from and to `domain`.
Refuses: signatures and addresses, which are Amazon's own and in `providers`.

`invoke`: InvokeModel, with the bodies of Anthropic's models alone.

Source: Amazon Bedrock API reference, "Converse", "ConverseStream", "CountTokens"; the service model `bedrock-runtime`
of the AWS SDKs.
"""

from penstock.dialects.bedrock.invoke import ANTHROPIC_VERSION, InvokeModel
from penstock.dialects.bedrock.wire import Converse, CountTokens

__all__ = ["ANTHROPIC_VERSION", "Converse", "CountTokens", "InvokeModel"]
