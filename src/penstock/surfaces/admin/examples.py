"""A body of each shape, as the OpenAPI document shows it. A test holds every one of them to its schema."""

from collections.abc import Mapping
from typing import Any

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "Organisation": {"name": "acme"},
    "Team": {"name": "growth", "required_tags": ["feature"]},
    "TeamChanges": {"required_tags": ["feature", "customer"]},
    "Project": {"name": "search", "team": "growth", "environment": "production"},
    "User": {"name": "ana@example.com"},
    "Key": {
        "name": "nightly",
        "project": "search",
        "user": "ana@example.com",
        "models": ["gpt-4.1"],
        "tags": {"feature": "nightly"},
        "expires_at": "2099-12-31T00:00:00Z",
    },
    "Limit": {
        "name": "growth-monthly",
        "match": {"team": "growth"},
        "unit": "usd",
        "amount": "100.00",
        "per": "month",
        "alert_at": [0.8],
    },
    "LimitChanges": {"amount": "150.00"},
    "Raise": {"by": "7.50", "until": "2099-12-31T00:00:00Z", "reason": "launch day"},
    "Provider": {"name": "vllm", "kind": "compatible", "base_url": "http://10.0.0.7:8000/v1"},
    "Model": {
        "name": "llama",
        "targets": [{"provider": "vllm", "model": "llama-3.3-70b"}],
        "price": {"input": "0.20", "output": "0.60"},
        "max_output": 8192,
    },
    "Adjustment": {"limit": "growth-monthly", "amount": "1.25", "reason": "invoice of last week"},
    "PriceUpdate": {
        "entries": [{"provider": "vllm", "model": "llama-3.3-70b", "price": {"input": "0.25", "output": "0.75"}}]
    },
    "Kill": {"scope": {"team": "growth"}, "reason": "runaway job"},
    "Lift": {"reason": "job fixed"},
}
