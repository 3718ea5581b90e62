"""LiteLLM's model prefixes: where their calls go, and which variable holds the key by default."""

from msgspec import Struct


class Vendor(Struct, frozen=True):
    """`kind`: of the provider here. `base_url`: None where the file must say it. `variable`: LiteLLM's default for the
    key, empty where none is sent. `suffix`: what LiteLLM adds to the address that it is given."""

    kind: str = "compatible"
    base_url: str | None = None
    variable: str = ""
    suffix: str = ""


VENDORS = {
    "openai": Vendor("openai", "", "OPENAI_API_KEY"),
    "text-completion-openai": Vendor("openai", "", "OPENAI_API_KEY"),
    "cerebras": Vendor(base_url="https://api.cerebras.ai/v1", variable="CEREBRAS_API_KEY"),
    "deepinfra": Vendor(base_url="https://api.deepinfra.com/v1/openai", variable="DEEPINFRA_API_KEY"),
    "deepseek": Vendor(base_url="https://api.deepseek.com/v1", variable="DEEPSEEK_API_KEY"),
    "fireworks_ai": Vendor(base_url="https://api.fireworks.ai/inference/v1", variable="FIREWORKS_API_KEY"),
    "groq": Vendor(base_url="https://api.groq.com/openai/v1", variable="GROQ_API_KEY"),
    "mistral": Vendor(base_url="https://api.mistral.ai/v1", variable="MISTRAL_API_KEY"),
    "moonshot": Vendor(base_url="https://api.moonshot.ai/v1", variable="MOONSHOT_API_KEY"),
    "nvidia_nim": Vendor(base_url="https://integrate.api.nvidia.com/v1", variable="NVIDIA_NIM_API_KEY"),
    "openrouter": Vendor(base_url="https://openrouter.ai/api/v1", variable="OPENROUTER_API_KEY"),
    "perplexity": Vendor(base_url="https://api.perplexity.ai", variable="PERPLEXITYAI_API_KEY"),
    "sambanova": Vendor(base_url="https://api.sambanova.ai/v1", variable="SAMBANOVA_API_KEY"),
    "together_ai": Vendor(base_url="https://api.together.xyz/v1", variable="TOGETHERAI_API_KEY"),
    "xai": Vendor(base_url="https://api.x.ai/v1", variable="XAI_API_KEY"),
    "custom_openai": Vendor(),
    "hosted_vllm": Vendor(),
    "litellm_proxy": Vendor(),
    "llamafile": Vendor(),
    "lm_studio": Vendor(),
    "ollama": Vendor(base_url="http://localhost:11434/v1", suffix="/v1"),
    "ollama_chat": Vendor(base_url="http://localhost:11434/v1", suffix="/v1"),
    "openai_like": Vendor(),
    "vllm": Vendor(),
}
"""Those that speak OpenAI's dialect."""

OTHERS = {
    "anthropic": "anthropic",
    "azure": "azure",
    "azure_ai": "azure",
    "bedrock": "bedrock",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "gemini": "google",
    "vertex_ai": "vertex",
}
"""Those with a dialect of their own: prefix -> the kind of provider that they need."""

_FAMILIES = {
    "openai": ("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "davinci", "babbage", "whisper-", "tts-"),
    "anthropic": ("claude",),
    "gemini": ("gemini",),
    "cohere": ("command",),
}
"""Vendors of model names that are written without a prefix."""


def split(model: str, named: str | None, has_address: bool) -> tuple[str | None, str]:
    """The prefix of a model, as LiteLLM finds it, and the vendor's own name for it. `named`: `custom_llm_provider`.
    None: nobody can say whose it is."""
    prefix, slash, rest = model.partition("/")
    if named:
        return named, rest if slash and prefix == named else model
    if slash and (prefix in VENDORS or prefix in OTHERS):
        return prefix, rest
    family = next((vendor for vendor, begins in _FAMILIES.items() if model.startswith(begins)), None)
    if family is None and slash:
        return prefix, rest
    return family or ("openai" if has_address else None), model
