"""Teams and virtual keys, where the file or the proxy's export has them. Their secrets stay behind."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from penstock.config.litellm.deployments import Fields, free_name
from penstock.config.litellm.limits import Limits
from penstock.config.litellm.notes import Notes
from penstock.config.litellm.quantities import dollars
from penstock.config.litellm.shapes import listed, mapped, texts
from penstock.config.values import tag_value

EVERY_MODEL = frozenset({"*", "all-team-models", "all-proxy-models"})
SILENT = frozenset(
    {
        "allowed_cache_controls",
        "budget_id",
        "budget_reset_at",
        "created_at",
        "created_by",
        "key",
        "key_name",
        "last_active",
        "last_refreshed_at",
        "members_with_roles",
        "spend",
        "token",
        "token_id",
        "updated_at",
        "updated_by",
    }
)
"""What only informs, or is the secret itself."""
RATES = (("rpm_limit", "requests"), ("tpm_limit", "tokens"), ("max_parallel_requests", "concurrent"))
BOUNDS = ("max_budget", *(name for name, _ in RATES))
_NOT_IN_A_VARIABLE = re.compile(r"[^A-Za-z0-9]+")


class Keys:
    """`teams` and `keys` are sections of a file here, by name. `models`: the aliases that there are."""

    def __init__(self, notes: Notes, limits: Limits, models: Mapping[str, Fields]) -> None:
        self.teams: dict[str, Fields] = {}
        self.keys: dict[str, Fields] = {}
        self._notes = notes
        self._limits = limits
        self._models = models
        self._team_names: dict[str, str] = {}

    def read_teams(self, teams: Any, settings: Any) -> None:
        """`teams`: with their budgets; `settings`: `default_team_settings`, which names some."""
        for index, given in enumerate(listed(teams)):
            self._read_team(_written(mapped(given)), f"teams[{index}]")
        for index, given in enumerate(listed(settings)):
            fields = _written(mapped(given))
            self._team(fields.pop("team_id", None))
            self._notes.add_rest(f"litellm_settings.default_team_settings[{index}]", fields)

    def read(self, keys: Any, place: str) -> None:
        """Virtual keys, as the proxy lists them."""
        before = len(self.keys)
        for index, given in enumerate(listed(keys)):
            if isinstance(given, dict):
                self._read_key(_written(mapped(given)), f"{place}[{index}]")
            else:
                self._notes.add(f"{place}[{index}]", "is a digest alone: export the keys with return_full_object=true")
        if len(self.keys) > before:
            self._notes.add(
                place,
                "a secret cannot be taken along: give each key a new one (pk- and 32 or more random characters) in the "
                "variable that its `secret` names, and its caller too",
            )

    def _read_team(self, fields: Fields, place: str) -> None:
        name = self._team(fields.pop("team_id", None), fields.pop("team_alias", None))
        if name is None:
            self._notes.add(place, "has neither team_id nor team_alias: left out")
            return
        if any(_is_nothing(fields.get(bound)) for bound in BOUNDS):
            self._notes.add(place, "is bounded by nothing, or by what is no amount: write its limits before it serves")
        self._limit({"team": name}, fields, place)
        self._notes.add_rest(place, fields)

    def _read_key(self, fields: Fields, place: str) -> None:
        wanted = str(fields.pop("key_alias", None) or f"key-{len(self.keys) + 1}")
        models = self._allowed(fields, place)
        if fields.pop("blocked", False) or models is None or any(_is_nothing(fields.get(name)) for name in BOUNDS):
            self._notes.add(place, "may not call anything, or is bounded by what is no amount: the key is left out")
            return
        key: Fields = {"secret": ""}
        if team := self._team(fields.pop("team_id", None)):
            key["team"] = team
        if user := self._user(fields, place):
            key["user"] = user
        key |= {"models": models} if models else {}
        if (expires := fields.pop("expires", None)) is not None:
            if (moment := _moment(expires)) is None:
                self._notes.add(f"{place}.expires", "is not a time: the key is left out")
                return
            key["expires_at"] = moment
        name = free_name(wanted, self.keys, key)
        key["secret"] = f"env:KEY_{_NOT_IN_A_VARIABLE.sub('_', name).upper()}"
        self.keys[name] = {"name": name, **key}
        self._limit({"key": name}, fields, place)
        self._notes.add_rest(place, fields)

    def _allowed(self, fields: Fields, place: str) -> list[str] | None:
        """The models that a key may use, empty for all; None when it may use none of those that there are."""
        given = fields.pop("models", None)
        named = list(dict.fromkeys(texts(given)))
        if not given or EVERY_MODEL & set(named):
            return []
        for name in named:
            if name not in self._models:
                self._notes.add(f"{place}.models", f"there is no model {name[:60]!r} here: left out")
        return [name for name in named if name in self._models] or None

    def _limit(self, match: Mapping[str, str], fields: Fields, place: str) -> None:
        budget, duration = fields.pop("max_budget", None), fields.pop("budget_duration", None)
        soft = fields.pop("soft_budget", None)
        if budget is not None:
            made = self._limits.add_budget(match, budget, duration, place)
            if made is not None and soft is not None:
                self._limits.alert(made, soft, f"{place}.soft_budget")
        for name, unit in RATES:
            self._limits.add_rate(match, unit, fields.pop(name, None), f"{place}.{name}")
        for model, given in mapped(fields.pop("model_max_budget", None)).items():
            if not isinstance(given, dict) or model not in self._models:
                self._notes.add(f"{place}.model_max_budget", f"of {model[:60]!r} cannot be carried: left out")
                continue
            amount = given.get("budget_limit", given.get("max_budget"))
            window = given.get("time_period", given.get("budget_duration"))
            self._limits.add_budget({**match, "model": model}, amount, window, f"{place}.model_max_budget")

    def _team(self, identity: Any, alias: Any = None) -> str | None:
        """The name of a team here, made when it is new. Keys name it by its id."""
        if identity is None and alias is None:
            return None
        known = str(identity if identity is not None else alias)
        if known not in self._team_names:
            name = free_name(str(alias or identity), self.teams, {})
            self.teams[name] = {"name": name}
            self._team_names[known] = name
        return self._team_names[known]

    def _user(self, fields: Fields, place: str) -> str:
        given = fields.pop("user_id", None)
        if given is None or given == "default_user_id":
            return ""
        try:
            return tag_value(str(given))
        except ValueError as error:
            self._notes.add(f"{place}.user_id", f"{error}: left out")
            return ""


def _written(given: Fields) -> Fields:
    """Those fields that say something."""
    return {name: value for name, value in given.items() if value not in (None, {}, []) and name not in SILENT}


def _is_nothing(bound: Any) -> bool:
    """Without its bound a key would be free to spend."""
    return bound is not None and dollars(bound) is None


def _moment(text: Any) -> str | None:
    """RFC 3339 with its offset; without one it is UTC, as the proxy means it."""
    try:
        parsed = text if isinstance(text, datetime) else datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).isoformat()
