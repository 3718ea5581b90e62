"""One exchange through the rooms, in order. The order is a security property: there is no other way to a provider.

    authenticate -> admit -> plan -> reserve -> call -> settle -> record

`serve` returns a reply; by then everything up to the head of the provider's answer has happened. A plain reply is
settled before it is returned and a streamed one before its ending is handed out, so that a caller that saw the end of
an answer has a settled call. Whatever interrupts a call (the caller leaves, a kill, a broken provider), its attempt
resolves its hold once and the exchange leaves one usage event.
"""

from collections.abc import Awaitable, Callable

from penstock.admission import deprecation, idempotency
from penstock.admission.admit import dimensions, enter, find_alias, refuse_killed
from penstock.admission.downgrade import MAX_HANDOVERS, hand_over, taking_over
from penstock.dialects.base import Spoken
from penstock.dialects.translation import Passages
from penstock.domain.exchange import Exchange
from penstock.domain.journal import Note
from penstock.errors import (
    GatewayError,
    InvalidApiKey,
    StoreUnavailable,
    UnsupportedByTarget,
    UpstreamError,
    UpstreamReset,
)
from penstock.pipeline.attempt import tell
from penstock.pipeline.chorus import attempt_of
from penstock.pipeline.gateway import Gateway, Reply
from penstock.pipeline.kept import alias_that_made
from penstock.pipeline.reserve import reserve
from penstock.records.draft import event_of
from penstock.routing.plan import plan
from penstock.upstream.call import may_do_better_elsewhere


async def serve(
    gateway: Gateway, exchange: Exchange, spoken: Spoken, read_body: Callable[[], Awaitable[bytes]]
) -> Reply:
    """The whole life of one call. Raises `GatewayError` for every refusal, after it was recorded."""
    snapshot = gateway.snapshot
    try:
        gateway.require_ready()
        exchange.principal = gateway.identify(snapshot, exchange.headers, exchange.started_at / 1e9)
        exchange.tags = enter(snapshot, exchange)
        body = await read_body()
        gateway.require_ready()
        if gateway.snapshot is not snapshot:  # a body can take its time, and the key may be gone by now
            snapshot = gateway.snapshot
            exchange.principal = gateway.identify(snapshot, exchange.headers, gateway.clock() / 1e9)
            exchange.tags = enter(snapshot, exchange)
        call = spoken.dialect.parse(body, spoken.address)
        exchange.streaming = call.streaming
        exchange.dims = dimensions(exchange.principal, exchange.tags, call.model)
        refuse_killed(snapshot, exchange.dims)
        gateway.live[exchange.request_id] = exchange
        if call.errand is not None:
            exchange.alias = await alias_that_made(gateway, exchange, call)
        else:
            exchange.alias = find_alias(snapshot, exchange.principal, call.model)
            deprecation.take_replacement(snapshot, exchange)
        await _take_key(gateway, exchange, body)
        own_id = exchange.request_id.removeprefix("req_")
        passages = Passages(spoken.dialect, call, exchange.started_at // 10**9, own_id)
        reply = await _answer(gateway, exchange, passages)
    except BaseException as error:
        gateway.live.pop(exchange.request_id, None)
        try:
            _record_refusal(gateway, exchange, error)
        finally:
            await _release_key(gateway, exchange)
        raise
    if reply.chunks is None:
        del gateway.live[exchange.request_id]
    return reply


async def _take_key(gateway: Gateway, exchange: Exchange, body: bytes) -> None:
    """Claims the caller's Idempotency-Key, where there is one, before anything is held or sent. Raises
    `IdempotencyConflict` when another call has it, `StoreUnavailable` when that cannot be found out."""
    use = idempotency.key_use(exchange, body)
    if use is None:
        return
    first = await gateway.key_uses.take(use)
    if first != use:
        raise idempotency.refusal(first, use)
    exchange.key_use = use
    gateway.require_ready()
    gateway.identify(gateway.snapshot, exchange.headers, gateway.clock() / 1e9)  # that took its time


async def _release_key(gateway: Gateway, exchange: Exchange) -> None:
    """A call that has used nothing leaves its Idempotency-Key to the next try: it was refused, or never reached a
    provider, or every provider refused it."""
    use, used = exchange.key_use, exchange.usage
    if use is not None and not (used.total_input or used.total_output):
        await gateway.key_uses.release(use)


def _record_refusal(gateway: Gateway, exchange: Exchange, error: BaseException) -> None:
    """The event of a call that no attempt has recorded. Strangers leave none: they must not fill the disk."""
    if exchange.recorded or exchange.principal is None or isinstance(error, InvalidApiKey):
        return
    tell(exchange, error)
    now = gateway.clock()
    exchange.recorded = True
    gateway.ledger.note(Note(now, event_of(exchange, now)))


async def _answer(gateway: Gateway, exchange: Exchange, passages: Passages) -> Reply:
    """The answer of the model that was asked for, or of the one that takes over when a limit denies the call and names
    it; a limit that denies that one may name the next. Whatever keeps the last of them from being sent to, the caller
    is told of the first denial."""
    asked, replaced = exchange.alias, exchange.dims.get("replaced")
    denials: list[GatewayError] = []
    tried = {asked.name if asked else ""}
    while True:
        try:
            return await _first_answer(gateway, exchange, passages)
        except GatewayError as error:
            if denials and isinstance(error, UpstreamError | StoreUnavailable):
                raise
            alias = taking_over(gateway.snapshot, exchange, error)
            if alias is None or alias.name in tried or len(tried) > MAX_HANDOVERS:
                if not denials or asked is None:
                    raise
                exchange.alias, exchange.dims["model"] = asked, asked.name
                exchange.dims |= {} if replaced is None else {"replaced": replaced}
                exchange.decision["downgrade"]["refused"] = error.code
                raise denials[0] from None
            denials.append(error)
        hand_over(exchange, denials[-1], alias)
        tried.add(alias.name)


async def _first_answer(gateway: Gateway, exchange: Exchange, passages: Passages) -> Reply:
    """Tries the targets in order until one answers, each with another credential while that may help. Nothing has left
    for the caller yet, so a failure that another target may cure goes on to the next: its hold is resolved, and the
    next is taken, in one step of this process. A server that has no such endpoint is asked once more, in a dialect that
    it may have."""
    assert exchange.alias is not None
    targets = plan(exchange.alias)
    if exchange.alias.name not in gateway.snapshot.aliases:
        targets = tuple([it if it.price else await gateway.resolve(it.provider, it.model) for it in targets])
    failure: GatewayError = UpstreamReset("The model has no target.")
    waiting = list(targets)
    while waiting:
        target = waiting.pop(0)
        try:
            attempt = attempt_of(gateway, exchange, *await reserve(gateway, exchange, passages, target))
        except GatewayError as denied:
            if not _is_about_target(denied):
                raise
            said_before = isinstance(denied, UnsupportedByTarget) and bool(exchange.attempts)
            failure = failure if said_before else denied
            continue
        try:
            return await attempt.answer()
        except UpstreamError as error:
            if attempt.may_be_translated(error):
                passages.translate_for(target.provider)
                waiting.insert(0, target)
            elif error.is_about_credential and attempt.has_another_credential():
                waiting.insert(0, target)
            else:
                exchange.tried.clear()
            goes_on = bool(waiting) and (may_do_better_elsewhere(error) or waiting[0] is target)
            attempt.fail(error, final=not goes_on)
            if not goes_on:
                raise
            failure = error
        except BaseException as error:
            attempt.interrupt(error)
            raise
    raise failure


def _is_about_target(error: GatewayError) -> bool:
    """Whether the provider is gone, cannot do what is asked, or a limit of its own denied the call: another target may
    be able, or free."""
    if isinstance(error, UpstreamError | UnsupportedByTarget):
        return True
    limit = error.denial.limit if error.denial else None
    return limit is not None and (limit.each == "provider" or any(name == "provider" for name, _ in limit.match))
