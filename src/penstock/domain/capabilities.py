"""What a model may not have. A target that lacks one of these is not told of it."""

CAPABILITIES = (
    *(
        "image",
        "audio",
        "video",
        "document",
        "tools",
        "parallel_tools",
        "forced_tools",
        "json",
        "json_schema",
        "reasoning",
    ),
    *("n", "threads", "seed", "stop", "temperature", "top_p", "top_k", "penalties", "logprobs", "logit_bias"),
)
"""By the names that the catalogue, its vendors and an alias's targets have for them."""
