"""Google Gemini, the wire language of `generateContent`, `streamGenerateContent` and `countTokens`.

`wire` is what a call may cost and what an answer says of itself, `frames` how a stream is cut into its pieces (server-
sent events, or one JSON list), `parts` what a turn is made of, `request`, `answer` and `stream` the codec: a caller's
request, a plain answer, and the stream of one. `names` has the forms that Google's parser allows.
"""

from penstock.dialects.gemini.codec import GeminiCodec
from penstock.dialects.gemini.wire import CountTokens, GenerateContent

__all__ = ["CountTokens", "GeminiCodec", "GenerateContent"]
