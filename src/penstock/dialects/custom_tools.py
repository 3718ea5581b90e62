"""Tools whose input is free text, where a target has only functions: a function with one string in it, and back.

as_function(tool)       the function that stands for it
wrapped(call)           an earlier call of it, as a call of that function
is_emulated(...)        whether a call is of a function that stands for one
unwrapped(arguments)    the free text in its arguments
"""

import msgspec
from msgspec import Raw, structs

from penstock.dialects.codec import json_text
from penstock.domain.chat import Part, Request, Tool, ToolCall

INPUT = "input"

_SCHEMA = Raw(
    b'{"type":"object","properties":{"input":{"type":"string","description":"The whole input of the tool, as it is."}},'
    b'"required":["input"],"additionalProperties":false}'
)
_arguments_decoder = msgspec.json.Decoder(dict[str, str])


def as_function(tool: Tool) -> Tool:
    return structs.replace(tool, schema=_SCHEMA, custom=False, extras={})


def wrapped(call: ToolCall) -> ToolCall:
    return structs.replace(call, arguments=json_text({INPUT: call.arguments}), custom=False) if call.custom else call


def is_emulated(call: ToolCall, request: Request) -> bool:
    return not call.custom and any(
        isinstance(tool, Tool) and tool.custom and tool.name == call.name for tool in request.tools
    )


def unwrapped(arguments: str) -> str:
    """The free text; the arguments themselves where the model wrote something else."""
    try:
        members = _arguments_decoder.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    return members.get(INPUT, arguments)


def restored(part: Part, request: Request) -> Part:
    """A call as the caller knows the tool; any other part as it is."""
    if not isinstance(part, ToolCall) or not is_emulated(part, request):
        return part
    return structs.replace(part, arguments=unwrapped(part.arguments), custom=True)
