"""Any server that speaks OpenAI's dialect at a base URL: vLLM, Ollama, LM Studio, llama.cpp and most hosted vendors.

Source: OpenAI API reference for the dialect; vLLM "OpenAI-Compatible Server" and Ollama "OpenAI compatibility" for the
name of the output cap (`max_tokens`, which all of them take in a chat).
"""

from penstock.providers.base import NONE_MARKED
from penstock.providers.openai import OTHERS, OpenAI


class Compatible(OpenAI):
    kind = "compatible"
    marks_end = NONE_MARKED

    def surfaces(self, model: str) -> tuple[str, ...]:
        """Most servers have Responses by now; where one answers that it has not, the call is translated."""
        return ("chat.completions", "responses", *OTHERS)

    def output_cap_field(self, surface: str) -> str:
        return "max_output_tokens" if surface == "responses" else "max_tokens"
