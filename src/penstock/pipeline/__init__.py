"""PIPELINE: one exchange through the rooms, in order. The order is a security property.

Owns: `serve`, the only way to a provider, with what a worker holds meanwhile (`gateway`), the hold for a target
(`reserve`) and the one try at it that the hold allows (`attempt`, which `several` and `chorus` make of several
requests).
Refuses: rules of the rooms. What is admitted, held, priced, translated or sent is decided in the room that owns it;
here is only in which order, and that whatever interrupts a call settles it once.

Read `serve` first: it calls the others from top to bottom.
"""

from penstock.pipeline.gateway import Asked, Gateway, Reply
from penstock.pipeline.serve import serve

__all__ = ["Asked", "Gateway", "Reply", "serve"]
