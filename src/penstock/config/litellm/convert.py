"""A whole `config.yaml`: the sections in their order, then what refers to them."""

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import yaml
from msgspec import Struct

from penstock.config.litellm import quantities
from penstock.config.litellm.deployments import CLOUDS, Deployments, Fields
from penstock.config.litellm.keys import Keys
from penstock.config.litellm.limits import Limits
from penstock.config.litellm.notes import Note, Notes
from penstock.config.litellm.shapes import listed, mapped, texts
from penstock.config.litellm.vendors import VENDORS
from penstock.errors import ConfigError

MAX_BYTES = 8 * 1024 * 1024


class Imported(Struct, frozen=True):
    """`document`: the file here, as plain values. `notes`: what could not be carried, or not just so."""

    document: dict[str, Any]
    notes: tuple[Note, ...]


def convert(content: bytes, exported_keys: bytes | None = None) -> Imported:
    """`exported_keys`: what the proxy's `/key/list?return_full_object=true` answers, as JSON. Raises ConfigError for
    what is not such a file at all."""
    data = _read(content)
    notes = Notes()
    limits = Limits(notes)
    library, router, general = (_section(data, f"{name}_settings", notes) for name in ("litellm", "router", "general"))
    deployments = Deployments(notes, limits, _timeouts(library, router, notes))
    entries = data.pop("model_list", None)
    for index, entry in enumerate(listed(entries)):
        deployments.read(entry, f"model_list[{index}]")
    deployments.finish()
    _group_aliases(router, deployments, notes)
    _fallbacks(library, router, deployments, notes)
    _budgets(library, general, limits)
    _budgets_of_vendors(router, deployments, limits)
    keys = Keys(notes, limits, deployments.models)
    keys.read_teams(data.pop("teams", None), library.pop("default_team_settings", None))
    for name in ("keys", "virtual_keys"):
        keys.read(data.pop(name, None), name)
    if exported_keys is not None:
        exported = _read(exported_keys)
        keys.read_teams(exported.get("teams"), None)
        keys.read(exported.get("keys"), "exported keys")
    _unpriced(deployments, notes)
    for place, rest in (("litellm_settings", library), ("router_settings", router), ("general_settings", general)):
        notes.add_rest(place, rest)
    notes.add_rest("", data)
    sections = {
        "providers": list(deployments.providers.values()),
        "models": list(deployments.models.values()),
        "teams": list(keys.teams.values()),
        "keys": list(keys.keys.values()),
        "limits": limits.section(),
    }
    return Imported({name: section for name, section in sections.items() if section}, tuple(notes))


def _json(content: bytes) -> Any:
    """JSON, which may hold what YAML does not take; None for anything else."""
    try:
        return json.loads(content, parse_float=Decimal)
    except ValueError:
        return None


class _Loader(yaml.SafeLoader):
    """Fractions as they are written: a float would not be what a price says."""


def _exact(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    text = str(loader.construct_scalar(node)).replace("_", "")  # type: ignore[arg-type]
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


_Loader.add_constructor("tag:yaml.org,2002:float", _exact)


def _read(content: bytes) -> dict[str, Any]:
    """The mapping in a YAML or JSON text; a list alone counts as `keys`."""
    if len(content) > MAX_BYTES:
        raise ConfigError(f"the file holds more than {MAX_BYTES // 2**20} MiB")
    try:
        data = _json(content) or yaml.load(content, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}" if mark else ""
        raise ConfigError(f"this is not YAML: {error.problem or error.context}", place) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError("this is not YAML that can be read") from None
    if isinstance(data, list):
        return {"keys": data}
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise ConfigError("this is not a LiteLLM configuration: it must be a mapping with model_list")
    return data


def _section(data: dict[str, Any], name: str, notes: Notes) -> Fields:
    given = data.pop(name, None) or {}
    if isinstance(given, dict):
        return {key: value for key, value in mapped(given).items() if value is not None}
    notes.add(name, "is not a mapping: left out")
    return {}


def _unpriced(deployments: Deployments, notes: Notes) -> None:
    for name, model in deployments.models.items():
        is_known = [_has_known_prices(deployments, target["provider"]) for target in model.get("targets", [])]
        if "price" not in model and not all(is_known):
            notes.add(
                f"model {name}",
                "nobody knows the price of a server of your own: write its `price`, or limits in usd refuse its calls",
            )


def _has_known_prices(deployments: Deployments, provider: str) -> bool:
    """Whether a vendor sells there. A cloud's address is the customer's and its prices are the cloud's."""
    made, vendor = deployments.providers[provider], VENDORS[deployments.vendor_of[provider]]
    return made["kind"] in CLOUDS or (bool(vendor.variable) and "base_url" not in made)


def _timeouts(library: Fields, router: Fields, notes: Notes) -> dict[str, str]:
    """The bounds of deployments that state none of their own."""
    bounds = {}
    for place, section, name, bound in (
        ("litellm_settings", library, "request_timeout", "total"),
        ("router_settings", router, "timeout", "total"),
        ("router_settings", router, "stream_timeout", "first_byte"),
    ):
        if (given := section.pop(name, None)) is None:
            continue
        if (duration := quantities.timeout(given)) is None:
            notes.add(f"{place}.{name}", "is not a number of seconds up to a day: left out")
        else:
            bounds[bound] = duration
    return bounds


def _group_aliases(router: Fields, deployments: Deployments, notes: Notes) -> None:
    """Another name for a model group is an alias with the same targets."""
    place = "router_settings.model_group_alias"
    for name, meant in mapped(router.pop("model_group_alias", None)).items():
        original = meant.get("model") if isinstance(meant, dict) else meant
        alias = deployments.alias(name, place)
        if not isinstance(original, str) or original not in deployments.models or alias is None:
            notes.add(f"{place}.{name}", "there is no such model group: left out")
        elif alias in deployments.models:
            notes.add(f"{place}.{name}", "is a model group of its own: left out")
        else:
            deployments.models[alias] = {**deployments.models[original], "name": alias}


def _fallbacks(library: Fields, router: Fields, deployments: Deployments, notes: Notes) -> None:
    """Where else a failed call goes: further targets, which are tried in their order as well."""
    originals = {name: list(model.get("targets", [])) for name, model in deployments.models.items()}
    for place, section in (("litellm_settings", library), ("router_settings", router)):
        for entry in listed(section.pop("fallbacks", None)):
            for name, others in mapped(entry).items():
                _fall_back(name, others, originals, (deployments, notes, f"{place}.fallbacks"))
        others = texts(section.pop("default_fallbacks", None))
        for name in originals if others else ():
            if name not in others and originals[name]:
                _fall_back(name, others, originals, (deployments, notes, f"{place}.default_fallbacks"))


def _fall_back(
    name: str, others: Any, originals: Mapping[str, list[Fields]], context: tuple[Deployments, Notes, str]
) -> None:
    deployments, notes, place = context
    model = deployments.models.get(name)
    if model is None or not model.get("targets"):
        notes.add(place, f"there is no model group {name[:60]!r}: left out")
        return
    for other in others if isinstance(others, list) else [others]:
        if not isinstance(other, str) or not originals.get(other):
            notes.add(place, f"of {name!r}: {str(other)[:60]!r} is no model group: left out")
        elif deployments.models[other].get("price") != model.get("price"):
            notes.add(place, f"of {name!r}: {other!r} has another price, and an alias has one: left out")
        else:
            model["targets"] = [*model["targets"], *(it for it in originals[other] if it not in model["targets"])]
            notes.add(place, f"the targets of {other!r} are further targets of {name!r} now")


def _budgets(library: Fields, general: Fields, limits: Limits) -> None:
    """Budgets and rates that are not of a deployment, a vendor, a key or a team."""
    if (budget := library.pop("max_budget", None)) is not None:
        limits.add_budget({}, budget, library.pop("budget_duration", None), "litellm_settings")
    if (budget := library.pop("max_end_user_budget", None)) is not None:
        limits.add_budget({}, budget, None, "litellm_settings.max_end_user_budget", "customer")
    if (budget := library.pop("max_internal_user_budget", None)) is not None:
        duration = library.pop("internal_user_budget_duration", None)
        limits.add_budget({}, budget, duration, "litellm_settings.max_internal_user_budget", "user")
    users = library.get("default_internal_user_params")
    if isinstance(users, dict) and users.get("max_budget") is not None:
        library["default_internal_user_params"] = users = dict(users)
        place = "litellm_settings.default_internal_user_params"
        limits.add_budget({}, users.pop("max_budget"), users.pop("budget_duration", None), place, "user")
        if not users:
            del library["default_internal_user_params"]
    for name, each in (("global_max_parallel_requests", ""), ("max_parallel_requests", "key")):
        limits.add_rate({}, "concurrent", general.pop(name, None), f"general_settings.{name}", each)


def _budgets_of_vendors(router: Fields, deployments: Deployments, limits: Limits) -> None:
    """A vendor's budget is a limit where one provider here is all of that vendor."""
    for vendor, budget in mapped(router.pop("provider_budget_config", None)).items():
        place = f"router_settings.provider_budget_config.{vendor}"
        of_it = [name for name, prefix in deployments.vendor_of.items() if prefix == vendor]
        if len(of_it) != 1 or not isinstance(budget, dict):
            limits.notes.add(place, f"the budget of one provider is a limit, and {len(of_it)} are of it: left out")
            continue
        amount = budget.get("budget_limit", budget.get("max_budget"))
        duration = budget.get("time_period", budget.get("budget_duration"))
        limits.add_budget({"provider": of_it[0]}, amount, duration, place)
