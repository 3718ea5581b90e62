"""LiteLLM's model prefixes: where their calls go, and which variable holds the key by default."""

from msgspec import Struct


class Vendor(Struct, frozen=True):
    """`kind`: of the provider here. `base_url`: empty for the kind's own, None where the file must say it. `variable`:
    LiteLLM's default for the key, empty where none is sent. `suffix`: what LiteLLM adds to the address that it is
    given."""

    kind: str = "compatible"
    base_url: str | None = None
    variable: str = ""
    suffix: str = ""


VENDORS = {
    "openai": Vendor("openai", "", "OPENAI_API_KEY"),
    "text-completion-openai": Vendor("openai", "", "OPENAI_API_KEY"),
    "anthropic": Vendor("anthropic", "", "ANTHROPIC_API_KEY"),
    "gemini": Vendor("google", "", "GEMINI_API_KEY"),
    "cohere": Vendor("cohere", "", "COHERE_API_KEY"),
    "cohere_chat": Vendor("cohere", "", "COHERE_API_KEY"),
    "azure": Vendor("azure", None, "AZURE_API_KEY"),
    "azure_ai": Vendor("azure", None, "AZURE_AI_API_KEY"),
    "bedrock": Vendor("bedrock", None, "AWS_BEARER_TOKEN_BEDROCK"),
    "vertex_ai": Vendor("vertex", "", ""),
    "baseten": Vendor("baseten", "", "BASETEN_API_KEY"),
    "cerebras": Vendor("cerebras", "", "CEREBRAS_API_KEY"),
    "dashscope": Vendor("alibaba", "", "DASHSCOPE_API_KEY"),
    "databricks": Vendor("databricks", None, "DATABRICKS_API_KEY"),
    "deepinfra": Vendor("deepinfra", "", "DEEPINFRA_API_KEY"),
    "deepseek": Vendor("deepseek", "", "DEEPSEEK_API_KEY"),
    "featherless_ai": Vendor("featherless", "", "FEATHERLESS_AI_API_KEY"),
    "fireworks_ai": Vendor("fireworks", "", "FIREWORKS_API_KEY"),
    "friendliai": Vendor("friendli", "", "FRIENDLI_TOKEN"),
    "github": Vendor("github", "", "GITHUB_API_KEY"),
    "groq": Vendor("groq", "", "GROQ_API_KEY"),
    "hyperbolic": Vendor("hyperbolic", "", "HYPERBOLIC_API_KEY"),
    "minimax": Vendor("minimax", "", "MINIMAX_API_KEY"),
    "mistral": Vendor("mistral", "", "MISTRAL_API_KEY"),
    "moonshot": Vendor("moonshot", "", "MOONSHOT_API_KEY"),
    "nebius": Vendor("nebius", "", "NEBIUS_API_KEY"),
    "novita": Vendor("novita", "", "NOVITA_API_KEY"),
    "nvidia_nim": Vendor("nvidia", "", "NVIDIA_NIM_API_KEY"),
    "openrouter": Vendor("openrouter", "", "OPENROUTER_API_KEY"),
    "ovhcloud": Vendor("ovhcloud", "", "OVHCLOUD_API_KEY"),
    "perplexity": Vendor("perplexity", "", "PERPLEXITYAI_API_KEY"),
    "sambanova": Vendor("sambanova", "", "SAMBANOVA_API_KEY"),
    "together_ai": Vendor("together", "", "TOGETHERAI_API_KEY"),
    "vercel_ai_gateway": Vendor("vercel", "", "VERCEL_AI_GATEWAY_API_KEY"),
    "volcengine": Vendor("volcengine", "", "VOLCENGINE_API_KEY"),
    "voyage": Vendor("voyage", "", "VOYAGE_API_KEY"),
    "wandb": Vendor("wandb", "", "WANDB_API_KEY"),
    "xai": Vendor("xai", "", "XAI_API_KEY"),
    "zai": Vendor("zai", "", "ZAI_API_KEY"),
    "custom_openai": Vendor(),
    "hosted_vllm": Vendor("vllm"),
    "litellm_proxy": Vendor(),
    "llamafile": Vendor(),
    "lm_studio": Vendor("lmstudio"),
    "ollama": Vendor("ollama", "", suffix="/v1"),
    "ollama_chat": Vendor("ollama", "", suffix="/v1"),
    "openai_like": Vendor(),
    "vllm": Vendor("vllm"),
}
"""By LiteLLM's prefix. What is not here is not known to the gateway."""

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
    if slash and (prefix in VENDORS):
        return prefix, rest
    family = next((vendor for vendor, begins in _FAMILIES.items() if model.startswith(begins)), None)
    if family is None and slash:
        return prefix, rest
    return family or ("openai" if has_address else None), model
