"""Any server that speaks OpenAI's dialect at a base URL: vLLM, Ollama, LM Studio, llama.cpp and most hosted vendors.

Source: OpenAI API reference for the dialect; vLLM "OpenAI-Compatible Server" and Ollama "OpenAI compatibility" for the
name of the output cap (`max_tokens`, which all of them take).
"""

from penstock.providers.openai import OpenAI


class Compatible(OpenAI):
    kind = "compatible"

    def output_cap_field(self, surface: str) -> str:
        return "max_tokens"
