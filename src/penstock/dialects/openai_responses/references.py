"""What a request names of all that the vendor keeps, and what an answer says that it leaves there.

Source: OpenAI API reference, "Create a model response" (`previous_response_id`, `conversation`, input items, item
references); guides "Conversation state", "Reasoning models" (items that are kept are found by their id), "Image
generation" (an image is gone on with by the id of its call), "Code interpreter" (containers). Read 2026-11.

Files, vector stores and stored prompts are not among it: no call makes one, so they are the account's.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from penstock.dialects.base import Call
from penstock.domain.kept import MAX_KEPT, is_id
from penstock.errors import InvalidRequest

NULL = Raw(b"null")


class Item(Struct):
    """An item of an input. What bears on its cost is read from `content`, `output`, `outputs` and `result`."""

    type: str | None = ""
    id: Any = None
    content: Raw = NULL
    output: Raw = NULL
    outputs: Raw = NULL
    result: Raw = NULL
    encrypted_content: Raw = NULL
    container_id: Any = None
    environment: Any = None


class Tool(Struct):
    type: str = ""
    container: Any = None
    environment: Any = None


_BRINGS = {
    "": "content",
    "message": "content",
    "reasoning": "encrypted_content",
    "compaction": "encrypted_content",
    "image_generation_call": "result",
}
"""The member in which an item of a kind has all that it is. One without is found by its id."""

_WHOLE = frozenset(
    (
        *("function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"),
        *("computer_call_output", "local_shell_call_output", "shell_call_output"),
        *("apply_patch_call", "apply_patch_call_output", "mcp_approval_response"),
    )
)
"""Items that callers write themselves: they are all that they say."""


def refer(call: Call, previous_response_id: Raw, conversation: Raw) -> None:
    """Notes the response and the conversation that the call goes on with. Raises `InvalidRequest`."""
    if bytes(previous_response_id) != b"null":
        call.refers[_text(previous_response_id, "previous_response_id")] = "previous_response_id"
    if bytes(conversation) != b"null":
        call.refers[_conversation(conversation)] = "conversation"


def _text(raw: Raw, name: str) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        raise InvalidRequest(f"'{name}' must be a string.", param=name) from None


class _Conversation(Struct):
    id: str


def _conversation(raw: Raw) -> str:
    try:
        found = msgspec.json.decode(raw, type=str | _Conversation)
    except msgspec.DecodeError:
        told = "'conversation' must be a string, or an object with its 'id'."
        raise InvalidRequest(told, param="conversation") from None
    return found if isinstance(found, str) else found.id


def refer_by_item(call: Call, item: Item) -> None:
    """Notes an item that is found by its id, and one that may be, although it brings something of its own."""
    if item.id is not None or item.type == "item_reference":
        _refer_by_id(call, item)
    if item.container_id is not None or item.environment is not None:
        call.mentions.extend(_containers((item.container_id, item.environment)))


def _refer_by_id(call: Call, item: Item) -> None:
    if not isinstance(item.id, str):
        raise InvalidRequest("The 'id' of an item must be a string.", param="input")
    brings = _BRINGS.get(item.type or "")
    if item.type in _WHOLE or (brings and not _is_empty(getattr(item, brings))):
        return
    if item.type == "item_reference" or (brings and _is_empty(item.content)):
        call.refers[item.id] = "input"
    else:
        call.mentions.append(item.id)


def refer_by_tools(call: Call, tools: Iterable[Tool]) -> None:
    """Notes the containers in which tools are to run."""
    for tool in tools:
        if tool.container is not None or tool.environment is not None:
            call.mentions.extend(_containers((tool.container, tool.environment)))


def _containers(places: Iterable[Any]) -> list[str]:
    """The ids in what names a container: by itself, or as a member of the tool's environment."""
    ids = [place.get("container_id") if isinstance(place, dict) else place for place in places]
    return [id for id in ids if isinstance(id, str)]


def _is_empty(raw: Raw) -> bool:
    return bytes(raw) in (b"null", b'""', b"[]", b"{}")


# -- the answer -------------------------------------------------------------------------------------------------------


class _Made(Struct):
    id: Any = None
    container_id: Any = None
    environment: Any = None


_made_decoder = msgspec.json.Decoder(list[_Made])


def kept_by(id: Any, output: Raw, conversation: Any) -> tuple[str, ...]:
    """The ids under which the vendor keeps a response and what is in it, and the conversation that it was added to; the
    response's own is the first. None of them where it has none."""
    if not is_id(id):
        return ()
    try:
        made = _made_decoder.decode(output)
    except (msgspec.DecodeError, RecursionError):
        made = []
    found = dict.fromkeys([id])
    if isinstance(conversation, dict) and is_id(conversation.get("id")):
        found[conversation["id"]] = None
    for item in made:
        places = _containers((item.container_id, item.environment))
        found |= dict.fromkeys([each for each in (item.id, *places) if is_id(each)])
    return tuple(found)[:MAX_KEPT]
