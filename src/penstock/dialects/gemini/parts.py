"""Parts of a turn, read and written.

Source: Gemini API reference, `Part`, `FunctionCall`, `FunctionResponse`, `Blob`, `FileData`; guide "Thought signatures"
(where signatures are, that a part of plain text may bear one, and the value that stands for one where a call was made
by another model).

A signature on a part of text is a `Thinking` without text behind it, and on a call `ToolCall.signature`. Reasoning of
another family of models is told to callers as a thought whose signature is that family's proofs, sealed.
"""

import base64
import binascii
import re
from typing import Any

import msgspec
from msgspec import Raw

from penstock.dialects.codec import json_text, seal, unseal
from penstock.dialects.custom_tools import wrapped
from penstock.dialects.gemini.names import NAME, camel_members, elements, pop
from penstock.dialects.proofs import proofs_of, proven
from penstock.domain.chat import Media, Opaque, Part, Text, Thinking, ToolCall, ToolResult

NO_SIGNATURE = "skip_thought_signature_validator"
"""What newer models take instead of the signature of a call that is not theirs."""

_NO_SIGNATURES = frozenset(("", NO_SIGNATURE, base64.b64encode(NO_SIGNATURE.encode()).decode()))
"""The same as clients write it that take a signature for bytes."""
_MADE_ID = "call_gm_"
_FILES = ("https://generativelanguage.googleapis.com/", "gs://")
_KINDS = {"image": "image", "audio": "audio", "video": "video"}
_MIMES = {
    **{"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"},
    **{"pdf": "application/pdf", "mp3": "audio/mpeg", "wav": "audio/wav", "mp4": "video/mp4", "txt": "text/plain"},
}
_MIME_OF_KIND = {"image": "image/jpeg", "audio": "audio/wav", "video": "video/mp4", "document": "application/pdf"}
_SUFFIX = re.compile(r"\.(\w{1,5})(?:[?#].*)?$")


def made_id(scope: str, number: int) -> str:
    """An id for a call that came without one: the same for the same answer, however it was cut."""
    return f"{_MADE_ID}{scope[:24]}_{number}" if scope else f"{_MADE_ID}{number}"


def is_made(call: str) -> bool:
    return call.startswith(_MADE_ID)


# -- reading ----------------------------------------------------------------------------------------------------------


def decode_part(raw: Raw) -> list[Part]:
    """What one part says. A call or a result without an id has an empty one. Raises `msgspec.DecodeError`."""
    part = camel_members(bytes(raw))
    signature = pop(part, "thoughtSignature", str, "")
    is_thought = pop(part, "thought", bool, False)
    if "functionCall" in part:
        return [_call(camel_members(bytes(part.pop("functionCall"))), signature, part)]
    if "functionResponse" in part:
        return [_result(camel_members(bytes(part.pop("functionResponse"))), part)]
    if is_thought and not part.keys().isdisjoint(("inlineData", "fileData")):
        return [Opaque(NAME, next(iter(part)), raw)]  # a sketch: a thought, and no part of the answer
    if "inlineData" in part:
        return [_inline(camel_members(bytes(part.pop("inlineData"))), part), *_proof(signature)]
    if "fileData" in part:
        return [_file(camel_members(bytes(part.pop("fileData"))), part)]
    if "text" in part or not part:
        text = pop(part, "text", str, "")
        if is_thought:
            return [_thought(text, signature, part)]
        return [*([Text(text, extras=part)] if text or not signature else []), *_proof(signature)]
    return [Opaque(NAME, next(iter(part)), raw)]


def _proof(signature: str) -> list[Part]:
    """A signature that is no thought's own."""
    return [Thinking("", False, signature, origin=NAME)] if signature else []


def is_bare_proof(part: Part) -> bool:
    """Whether this is the signature of what came before it, and no reasoning."""
    return isinstance(part, Thinking) and not (part.text or part.summary) and part.origin == NAME


def _call(call: dict[str, Raw], signature: str, extras: dict[str, Raw]) -> ToolCall:
    args = bytes(call.pop("args", Raw(b"{}"))).decode()
    origin, proof = _unsealed("" if signature in _NO_SIGNATURES else signature)
    name, id_ = pop(call, "name", str, ""), pop(call, "id", str, "")
    return ToolCall(id_, name, args, signature=proof, origin=origin if proof else "", extras={**extras, **call})


def _result(told: dict[str, Raw], extras: dict[str, Raw]) -> ToolResult:
    parts: list[Text | Media | Opaque] = []
    response = told.pop("response", Raw(b"{}"))
    members = msgspec.json.decode(response, type=dict[str, Raw])
    is_error = list(members) == ["error"]
    if is_error or list(members) == ["output"]:
        parts += _outputs(next(iter(members.values())))
    else:
        parts.append(Text(bytes(response).decode()))
    for raw in elements(bytes(told.pop("parts", Raw(b"[]")))):
        inner = camel_members(bytes(raw))
        if "inlineData" in inner:
            parts.append(_inline(camel_members(bytes(inner.pop("inlineData"))), inner))
        elif "fileData" in inner:
            parts.append(_file(camel_members(bytes(inner.pop("fileData"))), inner))
        else:
            parts.append(Opaque(NAME, "functionResponse.parts", raw))
    name, id_ = pop(told, "name", str, ""), pop(told, "id", str, "")
    return ToolResult(id_, tuple(parts), name, is_error, extras={**extras, **told})


def _outputs(raw: Raw) -> list[Text]:
    """What a function put out: text, a list of texts, or any JSON."""
    try:
        said = msgspec.json.decode(raw, type=str | list[str])
    except msgspec.DecodeError:
        return [Text(bytes(raw).decode())]
    return [Text(said)] if isinstance(said, str) else [Text(one) for one in said]


def _inline(blob: dict[str, Raw], extras: dict[str, Raw]) -> Media:
    mime, data, name = pop(blob, "mimeType", str, ""), pop(blob, "data", str, ""), pop(blob, "displayName", str, "")
    kind, data = _kind(mime), _standard(data)
    if mime.startswith("text/"):
        text = _text_in(data)
        if text is not None:
            return Media("document", mime, text=text, name=name, extras={**extras, **blob})
    return Media(kind, mime, data=data, name=name, extras={**extras, **blob})


def _standard(data: str) -> str:
    """Base64 in the alphabet that every vendor reads; Google's own clients write the one for URLs."""
    if "-" not in data and "_" not in data:
        return data
    standard = data.replace("-", "+").replace("_", "/")
    return standard + "=" * (-len(standard) % 4)


def _text_in(data: str) -> str | None:
    """The text in base64, where it is text and would be written like this again."""
    try:
        text = base64.b64decode(data, validate=True).decode()
    except ValueError:
        return None
    return text if base64.b64encode(text.encode()).decode() == data else None


def _file(file: dict[str, Raw], extras: dict[str, Raw]) -> Media:
    mime, uri, name = pop(file, "mimeType", str, ""), pop(file, "fileUri", str, ""), pop(file, "displayName", str, "")
    is_google = uri.startswith(_FILES)
    url, id_ = ("", uri) if is_google else (uri, "")
    return Media(_kind(mime), mime, url=url, file=id_, name=name, extras={**extras, **file})


def _kind(mime: str) -> Any:
    return _KINDS.get(mime.partition("/")[0], "document")


def _thought(text: str, signature: str, extras: dict[str, Raw]) -> Thinking:
    origin, proof = _unsealed(signature)
    if origin == NAME:
        return Thinking(text, True, signature, origin=NAME, extras=extras)
    return proven(text, origin, proof, extras)


def _unsealed(signature: str) -> tuple[str, str]:
    """A signature is base64 here, also one of another family, which is sealed inside."""
    if not signature:
        return NAME, ""
    try:
        inside = base64.b64decode(signature + "=" * (-len(signature) % 4), altchars=b"-_").decode("ascii")
    except (ValueError, binascii.Error):
        return NAME, signature
    return unseal(inside, NAME) if inside.startswith("penstock.") else (NAME, signature)


# -- writing ----------------------------------------------------------------------------------------------------------


def sealed(origin: str, proof: str) -> str:
    """A proof as a caller keeps it, in the base64 that the member is declared to be."""
    if origin in (NAME, "") or not proof:
        return proof
    return base64.b64encode(seal(origin, proof, NAME).encode()).decode()


def packed(thinking: Thinking) -> str:
    """The signature that proves another family's reasoning to nobody but the gateway. Vendors that speak OpenAI's
    dialect want theirs back without any proof."""
    is_wanted = thinking.signature or thinking.sealed or thinking.id or thinking.origin == "openai_chat"
    return sealed(thinking.origin, proofs_of(thinking)) if is_wanted else ""


def arguments(call: ToolCall) -> Raw:
    """The arguments as the object that the API has them as."""
    call = wrapped(call)
    try:
        msgspec.json.decode(call.arguments or "{}", type=dict[str, Raw])
    except (msgspec.DecodeError, RecursionError):
        return Raw(json_text({"INVALID_JSON": call.arguments}).encode())
    return Raw((call.arguments or "{}").encode())


def response_of(result: ToolResult) -> Raw:
    """What a function put out, as an object: what it wrote where that is one, else under `output` or `error`."""
    texts = [part.text for part in result.parts if isinstance(part, Text)]
    if len(texts) == 1 and not result.is_error and _is_free_object(texts[0]):
        return Raw(texts[0].encode())
    said = texts[0] if len(texts) == 1 else texts or ""
    return Raw(json_text({"error" if result.is_error else "output": said}).encode())


def _is_free_object(text: str) -> bool:
    if text[:1] != "{":
        return False
    try:
        members = msgspec.json.decode(text, type=dict[str, Raw])
    except (msgspec.DecodeError, RecursionError):
        return False
    return list(members) not in (["output"], ["error"])


def media_part(media: Media) -> dict[str, Any] | None:
    """A medium as `inlineData` or `fileData`; None where it is where Google cannot fetch it."""
    mime = media.mime or _guessed(media)
    if media.data:
        return {"inlineData": {"mimeType": mime, "data": media.data}}
    if media.text:
        data = base64.b64encode(media.text.encode()).decode()
        return {"inlineData": {"mimeType": mime if mime.startswith("text/") else "text/plain", "data": data}}
    uri = media.url or (media.file if "://" in media.file else "")
    return {"fileData": {"mimeType": mime, "fileUri": uri}} if uri else None


def _guessed(media: Media) -> str:
    suffix = _SUFFIX.search(media.url or media.name)
    return _MIMES.get(suffix[1].lower() if suffix else "", _MIME_OF_KIND[media.kind])
