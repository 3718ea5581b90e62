"""Bedrock's Converse, the wire language of `POST /model/{modelId}/converse` and `/converse-stream`.

Owns: reading a Converse request for what it may cost, reading usage and ends from answers and from binary event streams
(`wire`), and the translation of requests, answers and streams from and to `domain`.
Refuses: signatures and addresses, which are Amazon's own and in `providers`.

Source: Amazon Bedrock API reference, "Converse", "ConverseStream"; the service model `bedrock-runtime` of the AWS SDKs.
"""

from penstock.dialects.bedrock.wire import Converse

__all__ = ["Converse"]
