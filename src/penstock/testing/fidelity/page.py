"""The page of the judgement: `python -m penstock.testing.fidelity.page` prints what docs/fidelity.md holds."""

import sys

from penstock.dialects.registry import CONVERSATIONS
from penstock.domain.vendors import COMPATIBLE
from penstock.providers.registry import VENDORS
from penstock.testing.fidelity import judge, vectors
from penstock.testing.fidelity.features import FEATURES, TOLD
from penstock.testing.fidelity.judge import Judged

_HEAD = """\
# Fidelity

What of a call survives the way from its caller's dialect to a provider that speaks another, feature by feature. The
tables are written by `python -m penstock.testing.fidelity.page`, which translates a request with each feature on each
way by the gateway's own code, reads what the provider would get, and compares; a test fails when this page is not what
that prints, or when anything is lost in silence. Where caller and provider speak the same dialect nothing is
translated: the bytes pass.

| word | meaning |
|---|---|
| kept | the provider gets the same |
| emulated | it gets something else that does the same, such as a budget of tokens for an effort |
| dropped | it cannot be told; `x-penstock-dropped` names it, and `x-penstock-strict: true` refuses the call instead |
| refused | 400 `unsupported_by_target` or `invalid_request`, with the reason |
| - | the caller's dialect cannot say it |
"""

_ANSWERS = """\
## Answers

What a caller of each dialect is told of an answer that has the feature, whoever gave it; `-`: its dialect has no member
for it. The headers of an answer leave before it is known what is in it, so they do not name what is left out. What only
one vendor says is told to callers of its own dialect alone: what tools did that it ran itself (searches, code, fetched
pages, MCP), the category of a refusal, containers and edits of the context, the queries and the widget of a search,
safety ratings and the verdicts of content filters, a guardrail's trace, `system_fingerprint`, `x_groq`, `timings`,
fees by the piece beside the tokens, its own cost.

"""

_EMBEDDINGS = """\
## Embeddings

What a vendor that is asked in each dialect is told of a request for embeddings that came in another one. Token numbers
go to vendors of OpenAI's dialect alone (400 `unsupported_by_target` elsewhere). `base64` is packed by the gateway from
the vendor's own digits, and more inputs than a vendor takes in one call go in several: see
[api.md](api.md#embeddings). Vertex is asked in `batchEmbedContents` for Gemini's models and in `predict` for others,
Bedrock in `cohere.embed` for Cohere's, in `invoke.titan` and `invoke.nova` for Amazon's.

"""


def page() -> str:
    """The whole page."""
    judged = judge.requests()
    parts = [_HEAD]
    for caller in CONVERSATIONS:
        mine = {(one.target, one.feature): one for one in judged if one.caller == caller}
        targets = [target for target in CONVERSATIONS if target != caller]
        rows = [[f.name, *(_word(mine[target, f.name]) for target in targets)] for f in FEATURES]
        parts.append(f"## From callers of {caller}\n\n" + _table(["feature", *targets], rows))
    told = {(one.caller, one.feature): one for one in judge.answers()}
    rows = [[t.name, *(_word(told[caller, t.name]) for caller in CONVERSATIONS)] for t in TOLD]
    parts.append(_ANSWERS + _table(["feature", *CONVERSATIONS], rows))
    made = {(one.target, one.feature): one for one in vectors.requests()}
    rows = [[f.name, *(_word(made[target, f.name]) for target in vectors.TARGETS)] for f in vectors.FEATURES]
    parts.append(_EMBEDDINGS + _table(["feature", *vectors.TARGETS], rows))
    parts.append("## Who speaks what\n\n" + _table(["provider", "dialects"], _vendors()))
    return "\n".join(parts)


def _vendors() -> list[list[str]]:
    own = sorted(set(VENDORS) - set(COMPATIBLE))
    return [
        *[[kind, ", ".join(VENDORS[kind].surfaces("any"))] for kind in own],
        ["the vendors of [providers.md](providers.md)", "chat.completions, and what the table there says"],
    ]


def _word(judged: Judged) -> str:
    return "-" if judged.verdict == "none" else judged.verdict


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
