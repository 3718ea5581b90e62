"""Every error that can reach a caller or an operator, drawn as a tree.

    PenstockError
    |-- ConfigError                    a fault in a file or a setting; `penstock check` prints it
    |   `-- ConfigFaults               all the faults of a file; `.faults` has one line each
    |-- GatewayError                   answers a caller; declares status, type, code, source, retry
    |   |-- InvalidRequest             400 invalid_request
    |   |   |-- BodyTooLarge           413 request_too_large
    |   |   |-- InvalidTokenRequest    400 invalid_request   of a token; .error is RFC 6749's word for it
    |   |   |-- UnsupportedByTarget    400 unsupported_by_target
    |   |   |   `-- ThreadUnsupported  400 unsupported_by_target   .details: what makes Anthropic's clients do without
    |   |   |-- UnpricedModel          400 unpriced_model
    |   |   `-- NoOutputBound          400 invalid_request   a dollar limit applies and nothing caps the output
    |   |-- InternalError              500 internal_error        a fault of the gateway's own
    |   |-- InvalidApiKey              401 invalid_api_key
    |   |   `-- UnknownSigner          401 invalid_api_key   signed with a key that its issuer is not known to have
    |   |-- NotPermitted               403 not_permitted
    |   |-- Killed                     403 killed
    |   |-- ModelNotFound              404 model_not_found
    |   |-- NotFound                   404 not_found
    |   |-- MethodNotAllowed           405 method_not_allowed
    |   |-- IdempotencyConflict        409 idempotency_conflict  the request was sent before; .first_request_id
    |   |   `-- IdempotencyMismatch    422 idempotency_mismatch  its Idempotency-Key was another request's
    |   |-- RateLimitExceeded          429 rate_limit_exceeded   the window turns: retry-after
    |   |-- LimitHeld                  429 limit_held            others' holds are in the way: retry-after
    |   |-- InsufficientQuota          429 insufficient_quota    the money is spent: x-should-retry: false
    |   |-- StoreUnavailable           503 store_unavailable
    |   |-- Overloaded                 503 overloaded
    |   `-- UpstreamError              source=upstream; the next target may do better
    |       |-- UpstreamConnectFailed  502 upstream_unreachable  nothing was sent
    |       |-- UpstreamTimeout        504 upstream_timeout      .phase: connect, first_byte, between_chunks, total
    |       |-- UpstreamReset          502 upstream_reset        the connection broke in the middle
    |       |-- UpstreamMalformed      502 upstream_malformed    not HTTP, or not what the dialect allows
    |       |-- AnswerFailed           502 upstream_error        the vendor says that the answer came to nothing
    |       |-- UpstreamCredential     502 upstream_credential   the vendor rejected *our* key; never the caller's 401
    |       |-- ContextTooLong         400 context_length_exceeded   the vendor says so
    |       `-- UpstreamRefused        the vendor's own status and body
    |-- ControlError                   refuses a change of the control plane; declares status and code, has a place
    |   |-- InvalidNoun                422 invalid
    |   |   `-- InvalidFile            422 invalid              a configuration file; `.faults` has one line each
    |   |-- NotSignedIn                401 not_signed_in        whoever signs in is not who they say
    |   |-- TooManyAttempts            429 too_many_attempts    .retry_after_s
    |   |-- ProviderDown               502 identity_provider    it does not answer as one
    |   |-- NotServed                  501 not_served           a part of SCIM
    |   |-- NotAllowed                 403 not_permitted        no role of the asker's permits it
    |   |-- NotFoundNoun               404 not_found
    |   |-- Conflict                   409 conflict             the name is taken, or the object is in use
    |   |-- Declared                   409 declared             the configuration file owns it
    |   |-- ChangedMeanwhile           412 changed_meanwhile    the object is not the one that If-Match names
    |   |-- KeyOfAnother               422 idempotency_mismatch its Idempotency-Key was another request's
    |   `-- VaultUnavailable           503 vault_unavailable    who keeps the wrapping key does not answer, or refuses
    |-- SealBroken                     what is sealed does not open: another key, or it was changed
    |-- StoreTooNew                    the database was written by a newer release
    |-- StoreInUse                     another box serves from the database
    |-- StoreDown                      the database cannot be reached; trying again helps
    `-- JournalDamaged                 the journal's middle does not check; `.offset` says where

Messages are written for the person who reads them and hold no exception text, path or secret.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from penstock.domain.http import Headers
from penstock.domain.policy import Denial

Source = Literal["client", "gateway", "upstream"]
Retry = Literal["never", "same", "next"]


class PenstockError(Exception):
    """The root. `str()` is one sentence for a person."""


class ConfigError(PenstockError):
    """A fault in what the operator wrote. `place`: file and line, or the setting's name."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.place = place


class ConfigFaults(ConfigError):
    """Everything that is wrong with one file. `faults`: `file:line:column: path.to.field: sentence`, in file order."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class GatewayError(PenstockError):
    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"
    code: ClassVar[str] = "internal_error"
    source: ClassVar[Source] = "gateway"
    retry: ClassVar[Retry] = "never"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.denial: Denial | None = None


class InvalidRequest(GatewayError):
    status, type, code, source = 400, "invalid_request_error", "invalid_request", "client"


class BodyTooLarge(InvalidRequest):
    status, code = 413, "request_too_large"


class UnsupportedByTarget(InvalidRequest):
    code = "unsupported_by_target"


class ThreadUnsupported(UnsupportedByTarget):
    """A conversation that the vendor is to keep. `details` are those of Anthropic's own refusal, by which its clients
    know that they must send the whole conversation (API reference, "Errors"; guide "Message threads")."""

    details: ClassVar[dict[str, str]] = {"error_code": "thread_unsupported_request"}


class UnpricedModel(InvalidRequest):
    code = "unpriced_model"


class NoOutputBound(InvalidRequest):
    """A limit on money or tokens applies, and neither caller, alias nor catalogue caps the output."""


class InternalError(GatewayError):
    """A fault of the gateway's own; the log has the detail."""


class InvalidTokenRequest(InvalidRequest):
    """`error`: as RFC 6749 (section 5.2) and RFC 8693 (section 2.2.2) call it."""

    def __init__(self, message: str, error: str = "invalid_request") -> None:
        super().__init__(message)
        self.error = error


class InvalidApiKey(GatewayError):
    status, type, code, source = 401, "authentication_error", "invalid_api_key", "client"


class UnknownSigner(InvalidApiKey):
    """The issuer of a signed statement may have other keys by now."""


class NotPermitted(GatewayError):
    status, type, code, source = 403, "permission_error", "not_permitted", "client"


class Killed(GatewayError):
    status, type, code = 403, "permission_error", "killed"


class ModelNotFound(GatewayError):
    status, type, code, source = 404, "invalid_request_error", "model_not_found", "client"


class NotFound(GatewayError):
    status, type, code, source = 404, "invalid_request_error", "not_found", "client"


class MethodNotAllowed(GatewayError):
    status, type, code, source = 405, "invalid_request_error", "method_not_allowed", "client"


class IdempotencyConflict(GatewayError):
    """`first_request_id`: the call that used the Idempotency-Key first."""

    status, type, code, source = 409, "idempotency_error", "idempotency_conflict", "client"

    def __init__(self, message: str, first_request_id: str) -> None:
        super().__init__(message)
        self.first_request_id = first_request_id


class IdempotencyMismatch(IdempotencyConflict):
    status, code = 422, "idempotency_mismatch"


class RateLimitExceeded(GatewayError):
    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class LimitHeld(GatewayError):
    status, type, code = 429, "rate_limit_error", "limit_held"


class InsufficientQuota(GatewayError):
    status, type, code = 429, "insufficient_quota", "insufficient_quota"


class StoreUnavailable(GatewayError):
    status, type, code = 503, "service_unavailable_error", "store_unavailable"


class Overloaded(GatewayError):
    status, type, code = 503, "service_unavailable_error", "overloaded"


class UpstreamError(GatewayError):
    """`is_about_credential`: with another credential, the same call may be answered."""

    status, type, code, source, retry = 502, "upstream_error", "upstream_error", "upstream", "next"
    is_about_credential = False


class UpstreamConnectFailed(UpstreamError):
    code = "upstream_unreachable"


class UpstreamTimeout(UpstreamError):
    status, code = 504, "upstream_timeout"

    def __init__(self, message: str, phase: str) -> None:
        super().__init__(message)
        self.phase = phase


class UpstreamReset(UpstreamError):
    code = "upstream_reset"


class UpstreamMalformed(UpstreamError):
    code = "upstream_malformed"


class AnswerFailed(UpstreamError):
    """The model's answer ended in a fault, which is no fault of the call's: the next one may come whole."""


class UpstreamCredential(UpstreamError):
    """`headers`: those of the vendor's answer that name the request, for the caller's own enquiries."""

    code = "upstream_credential"

    def __init__(self, message: str, headers: Headers) -> None:
        super().__init__(message)
        self.headers = headers


class ContextTooLong(UpstreamError):
    """The vendor says that what is asked does not fit into the model's context window."""

    status, type, code = 400, "invalid_request_error", "context_length_exceeded"


class UpstreamRefused(UpstreamError):
    """The vendor answered with an error. `upstream_status` and `body` are the vendor's own."""

    def __init__(self, upstream_status: int, headers: Headers, body: bytes) -> None:
        super().__init__(f"the provider answered {upstream_status}")
        self.upstream_status = upstream_status
        self.headers = headers
        self.body = body


class ControlError(PenstockError):
    """A change that the control plane refuses. `place`: the field at fault (`targets[0].provider`), or empty."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "refused"

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place


class InvalidNoun(ControlError):
    status, code = 422, "invalid"


class InvalidFile(InvalidNoun):
    """`faults`: everything that keeps the file from being applied, a line each."""

    def __init__(self, faults: Sequence[str]) -> None:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(faults[0] + more)
        self.faults = tuple(faults)


class NotSignedIn(ControlError):
    status, code = 401, "not_signed_in"


class TooManyAttempts(ControlError):
    status, code = 429, "too_many_attempts"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many failed attempts: try again in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


class ProviderDown(ControlError):
    """An identity provider, not one of models."""

    status, code = 502, "identity_provider"


class NotServed(ControlError):
    status, code = 501, "not_served"


class NotAllowed(ControlError):
    status, code = 403, "not_permitted"


class NotFoundNoun(ControlError):
    status, code = 404, "not_found"


class Conflict(ControlError):
    status, code = 409, "conflict"


class Declared(ControlError):
    status, code = 409, "declared"


class ChangedMeanwhile(ControlError):
    status, code = 412, "changed_meanwhile"


class KeyOfAnother(ControlError):
    status, code = 422, "idempotency_mismatch"


class VaultUnavailable(ControlError):
    status, code = 503, "vault_unavailable"


class SealBroken(PenstockError):
    """The message names no secret and no key."""


class StoreTooNew(PenstockError):
    """The store's schema is of a release that this one does not know; going on could damage it."""


class StoreInUse(PenstockError):
    """Another box serves from the database; two would each spend the same limits."""


class StoreDown(PenstockError):
    """The database cannot be reached. Nothing is lost: the journals keep what it has not taken."""


class JournalDamaged(PenstockError):
    def __init__(self, name: str, offset: int) -> None:
        super().__init__(f"journal {name} is damaged at offset {offset}")
        self.name = name
        self.offset = offset
