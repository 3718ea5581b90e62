"""CATALOG: what a model can do and what it costs.

Owns: the rate card of a deployment (from genai-prices or from the operator), turning usage into cost lines, the upper
bound of a call's cost, and the facts that bound a call (`data/models.toml`: output cap, context window, tokens per
image).
Refuses: reading the clock (callers pass the instant), the network (prices come with the installed release), and
guessing: a model whose origin is unknown has no price unless the operator states one.

`cost` is for every process. `prices` and `models` are the control process's: `prices` imports genai-prices, so
workers, which must stay small, receive its results in their snapshot. This file exports nothing for that reason.
"""
