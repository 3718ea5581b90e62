"""Reserve: how one target is sent to, what the call can cost there at worst, and the hold for it on every limit."""

from msgspec import Struct, structs

from penstock.admission.admit import refuse_killed
from penstock.catalog.cost import Bounds, worst_cost
from penstock.dialects.base import Call, Demand
from penstock.dialects.codec import TargetFacts
from penstock.dialects.translation import Passage, Passages
from penstock.domain.exchange import Exchange
from penstock.domain.money import MAX_NANOUSD
from penstock.domain.policy import METERED_UNITS, QUANTUM_TOKENS, Limit
from penstock.domain.snapshot import Credential, Deployment, Provider
from penstock.domain.vendors import lacked_by
from penstock.errors import UnsupportedByTarget, UpstreamConnectFailed, UpstreamCredential
from penstock.ledger.ledger import Admission, Ask
from penstock.pipeline.gateway import Gateway
from penstock.pipeline.kept import credential_for
from penstock.providers.base import Vendor
from penstock.providers.registry import provider_for

UNSEEN_INPUT_TOKENS = 2_000_000
"""What content that the gateway never sees is held at where the model's context window is not known: the largest
window sold."""


class Plan(Struct, frozen=True):
    """What one attempt sets out with."""

    passage: Passage
    target: Deployment
    provider: Provider
    vendor: Vendor
    demand: Demand
    ask: Ask
    credential: Credential | None


LEAST_INJECTED_CAP = 256
"""Some vendors refuse a cap that does not fit the context beside the input; ours gives way down to this."""


async def reserve(
    gateway: Gateway, exchange: Exchange, passages: Passages, target: Deployment
) -> tuple[Plan, Admission]:
    """Checks and holds one target on every limit that counts this call: its worst case, or of a stream, on metered
    limits, the first quantum of its output. Raises `GatewayError`, with nothing held."""
    snapshot = gateway.snapshot
    exchange.dims["provider"] = target.provider
    refuse_killed(snapshot, exchange.dims)
    provider = snapshot.providers.get(target.provider)
    if provider is None:
        raise UpstreamConnectFailed("The provider was removed while the call was under way.")
    vendor = provider_for(provider.kind)
    credential = gateway.upstream.credentials.choose(provider, exchange.dims.get("team", ""), exchange.tried)
    if credential is None and provider.needs_credential:
        raise UpstreamCredential("The gateway has no credential for the provider. An operator must look at it.", [])
    passage = _passage(exchange, passages, vendor, target)
    call = passage.call
    if call.refers or call.mentions:
        credential = await credential_for(gateway, exchange, call, provider, credential)
    limits = gateway.ledger.applying(snapshot.limits, exchange.dims)
    cap, demand = _demand(exchange, passage, target, (vendor, limits))
    input_tokens = call.input_bound + call.images * target.image_tokens
    if call.unseen:
        input_tokens = max(input_tokens, (target.context_window or UNSEEN_INPUT_TOKENS) * call.rounds)
    voices = passage.voices
    output_tokens = None if cap is None else (cap + call.predicted) * call.choices * voices
    input_tokens *= voices
    ask = ask_of(call, target, (input_tokens, output_tokens), voices)
    if _can_be_topped_up(call) and any(limit.mode == "metered" and limit.unit in METERED_UNITS for limit in limits):
        first = QUANTUM_TOKENS + call.predicted * call.choices * voices
        if output_tokens is None or first < output_tokens:
            ask = structs.replace(ask, metered=ask_of(call, target, (input_tokens, first), voices))
    attempt_id = f"{exchange.request_id}:{len(exchange.attempts) + 1}"
    admission = await gateway.ledger.reserve(limits, exchange.dims, ask, attempt_id)
    return Plan(passage, target, provider, vendor, demand, ask, credential), admission


STRICT = "x-penstock-strict"


def _passage(exchange: Exchange, passages: Passages, vendor: Vendor, target: Deployment) -> Passage:
    """How the call reaches this target. What cannot be said there is dropped and named, or the call is refused where
    its caller wants all or nothing."""
    assert exchange.alias is not None
    lacks = lacked_by(vendor.kind).union(target.lacks)
    cap = exchange.alias.max_output or target.max_output
    facts = TargetFacts(target.model, cap, target.context_window, lacks, target.max_output)
    passage = passages.to(passages.served(target.provider, vendor.surfaces(target.model)), facts)
    if passage.dropped and exchange.headers.get(STRICT, "").lower() == "true":
        raise UnsupportedByTarget(f"The model's provider cannot be told: {', '.join(passage.dropped)}.")
    exchange.dropped = passage.dropped
    return passage


def ask_of(call: Call, target: Deployment, tokens: tuple[int, int | None], voices: int = 1) -> Ask:
    """What a call can use at worst that is sent `voices` times. `tokens`: all that go in, and all that come out."""
    worst, (input_tokens, output_tokens) = None, tokens
    if target.price is not None:
        each_in, each_out = -(-input_tokens // voices), -(-(output_tokens or 0) // voices)
        bounds = Bounds(
            each_in,
            each_out,
            audio_in=call.audio_in,
            audio_out=call.audio_out,
            image_in=call.images > 0 or call.unseen,
            video_in=call.unseen,
            web_searches=call.web_searches * call.choices,
        )
        worst = voices * worst_cost(target.price, bounds, (call.service_tier,) if call.service_tier else ())
        worst = min(worst, MAX_NANOUSD)
    return Ask(worst, input_tokens, output_tokens)


def _can_be_topped_up(call: Call) -> bool:
    """Whether what the provider puts out can be counted while it comes; audio cannot."""
    return call.streaming and not call.audio_out


def _demand(
    exchange: Exchange, passage: Passage, target: Deployment, context: tuple[Vendor, tuple[Limit, ...]]
) -> tuple[int | None, Demand]:
    """The cap on one choice's output, and how the call is sent. The caller's cap stands; else the alias's, else the
    catalogue's is injected where a limit that refuses counts output, so that the provider enforces our bound. The newer
    of its two names goes as the older one to servers that may know that one alone: they would ignore it.
    Where the request has no member for a cap, the bound is all that the model can put out."""
    vendor, limits = context
    call = passage.call
    assert exchange.alias is not None
    if not call.cappable:
        return target.max_output, Demand(target.model)
    ask_usage = call.streaming and vendor.asks_usage and not call.wants_usage
    cap = call.max_output
    if cap is None:
        cap = exchange.alias.max_output or target.max_output
    stands = call.max_output is not None and call.cap_name != "max_completion_tokens"
    if stands or cap is None or not any(limit.mode != "observe" and limit.unit in METERED_UNITS for limit in limits):
        return cap, Demand(target.model, None, ask_usage)
    name = vendor.output_cap_field(passage.dialect.surface)
    if call.max_output is None:
        if target.context_window is not None:
            cap = min(cap, max(LEAST_INJECTED_CAP, target.context_window - call.input_estimate))
    elif name != "max_tokens":
        return cap, Demand(target.model, None, ask_usage)
    return cap, Demand(target.model, (name, cap), ask_usage)
