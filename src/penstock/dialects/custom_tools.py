"""Tools whose input is free text, where a target has only functions: a function with one string in it, and back.

as_function(tool)       the function that stands for it
wrapped(call)           an earlier call of it, as a call of that function
Wrapping().take(event)  the same, of a call that is streamed
is_unknown(...)         whether a call is of one that the caller has not
is_emulated(...)        whether a call is of a function that stands for one
unwrapped(arguments)    the free text in its arguments
"""

import msgspec
from msgspec import Raw, structs

from penstock.dialects.codec import json_text
from penstock.domain.chat import Part, Request, Tool, ToolCall
from penstock.domain.stream import PartBegin, PartDelta, PartEnd, PartEvent

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


class Wrapping:
    """The events of one part after the other, with calls of free text as calls of functions. `is_within`: such a call
    is being told."""

    def __init__(self) -> None:
        self.is_within = False

    def take(self, event: PartEvent) -> list[PartEvent]:
        if isinstance(event, PartBegin) and isinstance(event.part, ToolCall) and event.part.custom:
            self.is_within = True
            begun = structs.replace(event.part, arguments="", custom=False)
            opening = f'{{"{INPUT}":"{json_text(event.part.arguments)[1:-1]}'
            return [PartBegin(event.choice, event.index, begun), PartDelta(event.choice, event.index, opening)]
        if self.is_within and isinstance(event, PartDelta):
            return [structs.replace(event, text=json_text(event.text)[1:-1])]
        if self.is_within and isinstance(event, PartEnd):
            self.is_within = False
            return [PartDelta(event.choice, event.index, '"}'), event]
        return [event]


def is_unknown(part: Part, request: Request) -> bool:
    """Whether a call is of a tool with free text that the caller did not offer, and so need not know how to read."""
    return (
        isinstance(part, ToolCall)
        and part.custom
        and not any(isinstance(tool, Tool) and tool.custom and tool.name == part.name for tool in request.tools)
    )


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
