"""`model_list`: deployments become providers, and model groups become aliases."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from penstock.config.environment import OWN_PREFIX
from penstock.config.litellm import clouds, quantities
from penstock.config.litellm.limits import Limits
from penstock.config.litellm.notes import Notes
from penstock.config.litellm.shapes import mapped
from penstock.config.litellm.vendors import VENDORS, Vendor, split
from penstock.config.values import base_url, header_fields, model_name

Fields = dict[str, Any]

CLOUDS = ("azure", "bedrock", "vertex")
NO_KEY = frozenset({"", "none", "null", "fake", "fake-key", "dummy", "anything", "empty", "not-needed"})
"""What people write as a key for servers that ask for none."""
SILENT = frozenset({"id", "mode", "description", "created_at", "updated_at", "created_by", "updated_by", "db_model"})
"""What only informs."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_IN_A_VARIABLE = re.compile(r"[^A-Za-z0-9]+")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class Deployments:
    """Reads deployments one by one. `providers` and `models` are sections of a file here, by name."""

    def __init__(self, notes: Notes, limits: Limits, timeouts: Mapping[str, str]) -> None:
        self.providers: dict[str, Fields] = {}
        self.models: dict[str, Fields] = {}
        self.vendor_of: dict[str, str] = {}
        """Provider -> the LiteLLM prefix that it was made for."""
        self._notes = notes
        self._limits = limits
        self._timeouts = dict(timeouts)
        self._variables: dict[tuple[str, str], str] = {}
        self._prices: dict[str, list[dict[str, Decimal]]] = {}

    def read(self, entry: Any, place: str) -> None:
        """One entry of `model_list`."""
        fields = mapped(entry)
        params, info = mapped(fields.get("litellm_params")), mapped(fields.get("model_info"))
        group = fields.get("model_name")
        model = params.pop("model", None)
        if not isinstance(group, str) or not isinstance(model, str):
            self._notes.add(place, "is no deployment: it needs model_name, and model in litellm_params")
            return
        self._notes.add_rest(place, {k: v for k, v in fields.items() if k not in _ENTRY})
        address = params.pop("api_base", None) or params.pop("base_url", None)
        prefix, name = split(model, params.pop("custom_llm_provider", None), bool(address))
        vendor = self._vendor(prefix, model, place)
        if vendor is None or prefix is None:
            return
        if vendor.kind in CLOUDS:
            cloud = clouds.read(vendor.kind, name, address, params, (self._notes, f"{place}.litellm_params"))
            if cloud is None:
                return
            name = cloud.model
        else:
            cloud = clouds.Cloud(vendor.kind, address, name)
        provider = self._provider((prefix, vendor), cloud, params, place)
        if provider is None:
            return
        if "*" in group or "*" in name:
            self._admit(group, name, provider, place)
        else:
            self._target(group, {"provider": provider, "model": name}, (params, info), place)
        self._notes.add_rest(f"{place}.litellm_params", params)
        self._notes.add_rest(f"{place}.model_info", {k: v for k, v in info.items() if not _informs(k)})

    def finish(self) -> None:
        """Gives each alias the price of its deployments, where they agree."""
        for alias, prices in self._prices.items():
            first = prices[0]
            if any(price != first for price in prices):
                self._notes.add(
                    f"model {alias}",
                    "its deployments have prices of their own, and an alias has one: put them into the price book, "
                    "with `penstock price set PROVIDER MODEL`",
                )
            elif first and not {"input", "output"} <= first.keys():
                self._notes.add(f"model {alias}", "its price lacks input or output, and is left out: write both")
            elif first:
                self.models[alias]["price"] = first

    def _vendor(self, prefix: str | None, model: str, place: str) -> Vendor | None:
        if prefix in VENDORS:
            return VENDORS[prefix]
        place += ".litellm_params.model"
        if prefix is None:
            self._notes.add(place, f"nothing says whose model {model[:60]!r} is: left out")
        else:
            self._notes.add(place, f"the provider {prefix[:60]!r} is not known here: left out")
        return None

    # -- providers ----------------------------------------------------------------------------------------------------

    def _provider(self, whose: tuple[str, Vendor], cloud: clouds.Cloud, params: Fields, place: str) -> str | None:
        """The name of the provider of one deployment, made when there is none like it."""
        prefix, vendor = whose
        where = self._address(vendor, cloud.address, f"{place}.litellm_params.api_base")
        if where is None:
            return None
        is_own_server = bool(where) and cloud.kind == "openai"
        made: Fields = {"kind": "compatible" if is_own_server else cloud.kind}
        made |= {"base_url": where} if where else {}
        made |= {"options": cloud.options} if cloud.options else {}
        is_vendors = vendor.base_url is None or not cloud.address or not where
        has_default = cloud.kind in CLOUDS or (bool(vendor.variable) and is_vendors)
        if cloud.key is not None:
            params["api_key"] = cloud.key
        default = (cloud.variable or vendor.variable) if has_default else ""
        reference = self._reference(params, default, prefix, place)
        made |= {"credentials": [{"name": "main", "value": reference}]} if reference else {}
        made |= {"timeouts": timeouts} if (timeouts := self._bounds(params, place)) else {}
        made |= {"headers": headers} if (headers := self._headers(params, place)) else {}
        name = free_name(prefix.replace("_", "-"), self.providers, made)
        self.providers[name] = {"name": name, **made}
        self.vendor_of[name] = prefix
        return name

    def _address(self, vendor: Vendor, address: Any, place: str) -> str | None:
        """The base URL; empty for the vendor's own; None, with a note, when there is none that can be written."""
        if address is None:
            if vendor.base_url is None:
                self._notes.add(place, "is missing, and this kind of server has no address of its own: left out")
            return vendor.base_url
        if not isinstance(address, str) or address.startswith(clouds.ENVIRONMENT):
            self._notes.add(place, "an address stands in the file itself, not in a variable: left out")
            return None
        address = address.rstrip("/")
        if vendor.suffix and not address.endswith(vendor.suffix):
            address += vendor.suffix
        try:
            checked = base_url(address)
        except ValueError as error:
            self._notes.add(place, f"{error}: left out")
            return None
        return "" if urlsplit(checked).hostname == _OWN_HOSTS.get(vendor.kind) else _without_paths(vendor.kind, checked)

    def _reference(self, params: Fields, default: str, prefix: str, place: str) -> str:
        """Where the key stands, or empty where none is sent."""
        place += ".litellm_params.api_key"
        if "api_key" not in params:
            return f"env:{default}" if default else ""
        given = params.pop("api_key")
        text = "" if given is None else str(given).strip()
        if text.lower() in NO_KEY:
            return ""
        if prefix == "vertex_ai" and text.startswith("/"):
            return f"file:{text}"
        variable = text.removeprefix(clouds.ENVIRONMENT)
        if variable != text and _VARIABLE.fullmatch(variable) and not variable.upper().startswith(OWN_PREFIX):
            return f"env:{variable}"
        variable = self._variables.setdefault((prefix, text), self._free_variable(prefix))
        self._notes.add(place, f"the key is not copied: put it into the variable {variable} where `serve` runs")
        return f"env:{variable}"

    def _free_variable(self, prefix: str) -> str:
        """Different keys must not meet in one variable."""
        wanted = f"{_NOT_IN_A_VARIABLE.sub('_', prefix).upper()}_IMPORTED_KEY"
        number = sum(prefix == of for of, _ in self._variables) + 1
        return wanted if number == 1 else f"{wanted}_{number}"

    def _bounds(self, params: Fields, place: str) -> Fields:
        bounds = dict(self._timeouts)
        for name, bound in (("timeout", "total"), ("stream_timeout", "first_byte")):
            if (given := params.pop(name, None)) is None:
                continue
            if (duration := quantities.timeout(given)) is None:
                self._notes.add(f"{place}.litellm_params.{name}", "is not a number of seconds up to a day: left out")
            else:
                bounds[bound] = duration
        return bounds

    def _headers(self, params: Fields, place: str) -> Fields:
        given = mapped(params.pop("extra_headers", None))
        if (organization := params.pop("organization", None)) is not None:
            given = {**given, "openai-organization": organization}
        headers: Fields = {}
        for name, value in given.items():
            text = str(value)
            if text.startswith(clouds.ENVIRONMENT) or "key" in name.lower() or "auth" in name.lower():
                self._notes.add(f"{place}.litellm_params.{name}", "a header holds no secret and no variable here")
                continue
            try:
                headers |= header_fields({name.lower(): text})
            except ValueError as error:
                self._notes.add(f"{place}.litellm_params.extra_headers", f"{error}: left out")
        return headers

    # -- aliases ------------------------------------------------------------------------------------------------------

    def _target(self, group: str, target: Fields, parts: tuple[Fields, Fields], place: str) -> None:
        params, info = parts
        alias, target["model"] = self.alias(group, place), self._model(target["model"], place)
        if alias is None or target["model"] is None:
            return
        model = self.models.setdefault(alias, {"name": alias, "targets": []})
        if target not in model["targets"]:
            model["targets"].append(target)
        price, lost = quantities.price({**info, **params})
        for name in lost:
            self._notes.add(f"{place}.{name}", "is not a price that can be written exactly, up to nine decimals")
        self._prices.setdefault(alias, []).append(price)
        for name in quantities.PRICES:
            params.pop(name, None)
            info.pop(name, None)
        self._cap(model, (params, info), place)
        match = {"provider": target["provider"], "model": alias}
        for name, unit in (("rpm", "requests"), ("tpm", "tokens")):
            given = params.pop(name, None)
            self._limits.add_rate(match, unit, given, f"{place}.litellm_params.{name}")
        if (budget := params.pop("max_budget", None)) is not None:
            self._limits.add_budget(match, budget, params.pop("budget_duration", None), f"{place}.litellm_params")

    def _cap(self, model: Fields, parts: tuple[Fields, Fields], place: str) -> None:
        """The least of the caps that the deployments state: it holds for whichever of them answers."""
        params, info = parts
        given = params.pop("max_tokens", None) or params.pop("max_completion_tokens", None)
        given = given or info.pop("max_output_tokens", None)
        for name in ("max_tokens", "max_output_tokens", "max_input_tokens"):
            info.pop(name, None)
        if given is None:
            return
        if (cap := quantities.whole(given)) is None:
            self._notes.add(f"{place}.max_tokens", "is not a whole number: left out")
            return
        model["max_output"] = min(cap, model.get("max_output", cap))

    def _admit(self, group: str, name: str, provider: str, place: str) -> None:
        """A wildcard. What it admits is called `provider/model` here, by the provider's name."""
        wanted = group.removesuffix("/*")
        if not group.endswith("/*") or name != "*" or "*" in wanted:
            self._notes.add(
                f"{place}.model_name", f"a wildcard here is `provider/*` for every model: write {provider}/* if meant"
            )
            return
        if wanted != provider:
            self._notes.add(f"{place}.model_name", f"callers write {provider}/MODEL instead of {wanted[:60]}/MODEL")
        self.models.setdefault(f"{provider}/*", {"name": f"{provider}/*"})

    def alias(self, group: str, place: str) -> str | None:
        """The name of an alias for a model group."""
        try:
            return model_name(group)
        except ValueError:
            self._notes.add(f"{place}.model_name", "cannot be the name of a model here: left out")
            return None

    def _model(self, name: str, place: str) -> str | None:
        try:
            return model_name(name)
        except ValueError:
            self._notes.add(f"{place}.litellm_params.model", "cannot be the name of a model here: left out")
            return None


_OWN_HOSTS = {
    "openai": "api.openai.com",
    "anthropic": "api.anthropic.com",
    "cohere": "api.cohere.com",
    "google": "generativelanguage.googleapis.com",
}


def _without_paths(kind: str, address: str) -> str:
    """Without what clients of this kind add to an address themselves."""
    if kind == "cohere":
        parts = urlsplit(address)
        return f"{parts.scheme}://{parts.netloc}"
    return address.removesuffix("/messages").removesuffix("/v1") if kind == "anthropic" else address


_ENTRY = frozenset({"model_name", "litellm_params", "model_info"})


def free_name(wanted: str, taken: Mapping[str, Fields], made: Fields) -> str:
    """`wanted`, or with a number behind it; that of the object that says the same, where there is one."""
    wanted = _NOT_IN_A_NAME.sub("-", wanted).strip("-._")[:100] or "unnamed"
    number, name = 1, wanted
    while name in taken and taken[name] != {"name": name, **made}:
        number += 1
        name = f"{wanted}-{number}"
    return name


def _informs(name: str) -> bool:
    return name in SILENT or name.startswith("supports_")
