"""What no object can know by itself: names are unique, what they refer to exists, every limit can match something."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from penstock.config.document import Document, Fault, Path
from penstock.config.environment import resolve_secret, vault_name
from penstock.config.lineage import completed, wider
from penstock.config.settings import (
    Contents,
    DeclaredKey,
    DeclaredLimit,
    DeclaredModel,
    DeclaredProject,
    DeclaredProvider,
    DeclaredTeam,
)
from penstock.config.values import shown
from penstock.domain.tenancy import DEFAULT_ORGANISATION
from penstock.errors import ConfigError

_CALLER_SECRET = re.compile(r"pk-[A-Za-z0-9_-]{32,253}")


@dataclass(frozen=True)
class Parsed:
    """`contents` without the objects that are faulty by themselves. `indices`: for each list that lost some, where
    the others stand in the document."""

    contents: Contents
    document: Document
    indices: Mapping[str, list[int]]

    def objects(self, section: str) -> Iterator[tuple[Path, Any]]:
        """Each object of a list with its path in the document."""
        objects = getattr(self.contents, section)
        for index, item in zip(self.indices.get(section, range(len(objects))), objects, strict=True):
            yield (section, index), item

    def names(self, section: str) -> set[str]:
        """Every name that the section declares, those of faulty objects too: a fault is reported where it is."""
        data = self.document.data
        objects = data.get(section) if isinstance(data, dict) else None
        items = objects if isinstance(objects, list) else []
        return {item["name"] for item in items if isinstance(item, dict) and isinstance(item.get("name"), str)}


def cross_check(parsed: Parsed) -> list[Fault]:
    """Every fault between objects."""
    return [
        *_repeated_names(parsed),
        *_teams(parsed),
        *_projects(parsed),
        *_models(parsed),
        *_replacements(parsed),
        *_keys(parsed),
        *_lineages(parsed),
        *_trust(parsed),
        *_limits(parsed),
    ]


def check_secrets(parsed: Parsed) -> list[Fault]:
    """Every reference that does not resolve, and every declared key whose secret is not one."""
    faults = []
    if (oidc := parsed.contents.sign_in.oidc) is not None:
        try:
            resolve_secret(oidc.client_secret)
        except ConfigError as error:
            faults.append(parsed.document.fault(("sign_in", "oidc", "client_secret"), str(error)))
    for path, provider in parsed.objects("providers"):
        for index, credential in enumerate(cast(DeclaredProvider, provider).credentials):
            if vault_name(credential.value) is not None:
                continue
            try:
                resolve_secret(credential.value)
            except ConfigError as error:
                faults.append(parsed.document.fault((*path, "credentials", index, "value"), str(error)))
    owners: dict[str, str] = {}
    for path, key in parsed.objects("keys"):
        if key.tokens_only:
            continue
        try:
            _claim_secret(key, owners)
        except ConfigError as error:
            faults.append(parsed.document.fault((*path, "secret"), str(error)))
    return faults


def caller_secret(key: DeclaredKey) -> str:
    """What callers send for a declared key. Raises ConfigError when the reference does not resolve to such a secret."""
    secret = resolve_secret(key.secret).reveal()
    if not _CALLER_SECRET.fullmatch(secret):
        raise ConfigError("the secret must be pk- and 32 to 253 characters of A-Z a-z 0-9 _ -")
    return secret


def _claim_secret(key: DeclaredKey, owners: dict[str, str]) -> None:
    secret = caller_secret(key)
    if secret in owners:
        raise ConfigError(f"the secret is also that of the key {shown(owners[secret])}")
    owners[secret] = key.name


def _repeated_names(parsed: Parsed) -> Iterator[Fault]:
    for section in ("providers", "models", "organisations", "teams", "projects", "keys", "limits"):
        seen: set[str] = set()
        for path, item in parsed.objects(section):
            if item.name in seen and (*path, "name") in parsed.document.values:
                yield parsed.document.fault((*path, "name"), f"{shown(item.name)} is taken; names are unique")
            elif item.name in seen:
                message = (
                    f"another limit is called {shown(item.name)}, which is made from the rest; give this one a `name`"
                )
                yield parsed.document.fault(path, message)
            seen.add(item.name)
    for path, provider in parsed.objects("providers"):
        names = [credential.name for credential in cast(DeclaredProvider, provider).credentials]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield parsed.document.fault((*path, "credentials", index, "name"), f"{shown(name)} is taken")


def _teams(parsed: Parsed) -> Iterator[Fault]:
    organisations = {DEFAULT_ORGANISATION, *parsed.names("organisations")}
    for path, item in parsed.objects("teams"):
        team = cast(DeclaredTeam, item)
        if team.organisation not in organisations:
            message = f"there is no organisation {shown(team.organisation)}"
            yield parsed.document.fault((*path, "organisation"), message)


def _projects(parsed: Parsed) -> Iterator[Fault]:
    teams = parsed.names("teams")
    for path, item in parsed.objects("projects"):
        project = cast(DeclaredProject, item)
        if project.team not in teams:
            yield parsed.document.fault((*path, "team"), f"there is no team {shown(project.team)}")


def _models(parsed: Parsed) -> Iterator[Fault]:
    providers = parsed.names("providers")
    for path, item in parsed.objects("models"):
        model = cast(DeclaredModel, item)
        if model.wildcard is not None and model.wildcard not in providers:
            yield parsed.document.fault((*path, "name"), f"there is no provider {shown(model.wildcard)}")
        for index, target in enumerate(model.targets):
            if target.provider not in providers:
                place = (*path, "targets", index, "provider")
                yield parsed.document.fault(place, f"there is no provider {shown(target.provider)}")


def _replacements(parsed: Parsed) -> Iterator[Fault]:
    """Each `replaced_by` that names no alias, and each that leads back to where it came from."""
    aliases = {name for name in parsed.names("models") if not name.endswith("/*")}
    successors = {item.name: item.replaced_by for _, item in parsed.objects("models") if item.replaced_by}
    for path, item in parsed.objects("models"):
        if not item.replaced_by:
            continue
        place = (*path, "replaced_by")
        if item.replaced_by not in aliases:
            yield parsed.document.fault(place, f"there is no model {shown(item.replaced_by)}")
        elif (circle := circle_from(item.name, successors)) is not None:
            yield parsed.document.fault(place, f"leads in a circle: {circle}")


def _and_replacements(name: str, models: Mapping[str, DeclaredModel]) -> Iterator[DeclaredModel]:
    """The alias and those that take its place, as far as they are declared."""
    seen: set[str] = set()
    while name in models and name not in seen:
        seen.add(name)
        yield models[name]
        name = models[name].replaced_by or ""


def circle_from(name: str, successors: Mapping[str, str]) -> str | None:
    """The way from `name` back to it, from each to its successor; None when it comes to an end."""
    way = [name]
    while (following := successors.get(way[-1])) is not None and following not in way:
        way.append(following)
    return " -> ".join([*way, name]) if following == name else None


def _completed_keys(parsed: Parsed) -> list[DeclaredKey]:
    projects = [project for _, project in parsed.objects("projects")]
    return completed([key for _, key in parsed.objects("keys")], projects)


def _lineages(parsed: Parsed) -> Iterator[Fault]:
    """Each `parent` that is none, and each key that asks for more than the one above it has."""
    names, whole = parsed.names("keys"), {key.name: key for key in _completed_keys(parsed)}
    parents = {key.name: key.parent for key in whole.values() if key.parent}
    for path, key in parsed.objects("keys"):
        if not key.parent:
            continue
        if key.parent not in names:
            yield parsed.document.fault((*path, "parent"), f"there is no key {shown(key.parent)}")
        elif (circle := circle_from(key.name, parents)) is not None:
            yield parsed.document.fault((*path, "parent"), f"leads in a circle: {circle}")
        elif key.parent in whole:
            for place, sentence in wider(whole[key.name].model_dump(), whole[key.parent].model_dump()):
                yield parsed.document.fault((*path, *place), sentence)


def _trust(parsed: Parsed) -> Iterator[Fault]:
    """Each key and project that the section `identity` names and that is not there, or not the key's."""
    names, keys = parsed.names("keys"), {key.name: key for key in _completed_keys(parsed)}
    teams = {project.name: project.team for _, project in parsed.objects("projects")}
    identity = parsed.contents.identity
    named: list[tuple[Path, str, str]] = [
        (("identity", "issuers", number, "rules", index), rule.key, rule.project)
        for number, issuer in enumerate(identity.issuers)
        for index, rule in enumerate(issuer.rules)
    ]
    for path, name, project in named:
        if name not in names:
            yield parsed.document.fault((*path, "key"), f"there is no key {shown(name)}")
        elif project and project not in parsed.names("projects"):
            yield parsed.document.fault((*path, "project"), f"there is no project {shown(project)}")
        elif (key := keys.get(name)) is not None:
            if project and (key.project not in {"", project} or teams.get(project, key.team) != key.team):
                yield parsed.document.fault((*path, "project"), f"the key {shown(name)} is not of this project")
            elif not project and not key.project:
                yield parsed.document.fault(path, f"needs a project: the key {shown(name)} has none")
    for index, name in enumerate(identity.gateway.keys if identity.gateway else ()):
        if name not in names:
            yield parsed.document.fault(("identity", "gateway", "keys", index), f"there is no key {shown(name)}")


def _keys(parsed: Parsed) -> Iterator[Fault]:
    teams, named, aliases = parsed.names("teams"), parsed.names("projects"), parsed.names("models")
    projects = {project.name: cast(DeclaredProject, project) for _, project in parsed.objects("projects")}
    secrets: dict[str, str] = {}
    for path, item in parsed.objects("keys"):
        key = cast(DeclaredKey, item)
        if key.team and key.team not in teams:
            yield parsed.document.fault((*path, "team"), f"there is no team {shown(key.team)}")
        if key.project and key.project not in named:
            yield parsed.document.fault((*path, "project"), f"there is no project {shown(key.project)}")
        project = projects.get(key.project)
        if project and key.team and project.team != key.team:
            message = f"the project {shown(key.project)} is of the team {shown(project.team)}, not {shown(key.team)}"
            yield parsed.document.fault((*path, "project"), message)
        for index, pattern in enumerate(key.models):
            if not _covered(pattern, aliases):
                yield parsed.document.fault((*path, "models", index), f"there is no model {shown(pattern)}")
        if key.secret and key.secret in secrets:
            message = f"the key {shown(secrets[key.secret])} has the same secret"
            yield parsed.document.fault((*path, "secret"), message)
        secrets.setdefault(key.secret, key.name)


def _covered(pattern: str, aliases: set[str]) -> bool:
    """Whether a key may name this: a declared alias, what a declared `provider/*` admits, or a pattern under which
    declared aliases fall."""
    if pattern.endswith("/*") and any(alias.startswith(pattern[:-1]) for alias in aliases):
        return True
    provider, slash, _ = pattern.partition("/")
    return pattern in aliases or (bool(slash) and f"{provider}/*" in aliases)


def _limits(parsed: Parsed) -> Iterator[Fault]:
    known = _Known.of(parsed)
    for path, item in parsed.objects("limits"):
        limit = cast(DeclaredLimit, item)
        if limit.on_exceeded and not known.has_model(limit.on_exceeded):
            place = (*path, "on_exceeded", "downgrade")
            yield parsed.document.fault(place, f"there is no model {shown(limit.on_exceeded)}")
        missing = list(known.missing(limit.match))
        for dimension, message in missing:
            yield parsed.document.fault((*path, "match", dimension), message)
        if not missing and (reason := known.contradiction(limit.match)):
            yield parsed.document.fault((*path, "match"), f"can match nothing: {reason}")


@dataclass(frozen=True)
class _Known:
    """What a limit can refer to. `names`: dimension -> declared names, those of faulty objects too."""

    names: Mapping[str, set[str]]
    environments: set[str]
    users: set[str] | None
    """Those of the file's keys; None where signed claims say who a call's user is, which may be anybody."""
    organisations: Mapping[str, str]
    """Team -> whose it is."""
    projects: Mapping[str, DeclaredProject]
    keys: Mapping[str, DeclaredKey]
    models: list[DeclaredModel]

    @classmethod
    def of(cls, parsed: Parsed) -> "_Known":
        sections = {"team": "teams", "project": "projects", "key": "keys", "provider": "providers", "model": "models"}
        return cls(
            names={
                **{dimension: parsed.names(section) for dimension, section in sections.items()},
                "organisation": {DEFAULT_ORGANISATION, *parsed.names("organisations")},
            },
            environments={item.environment for _, item in parsed.objects("projects")},
            users=None
            if parsed.contents.identity.names_users()
            else {item.user for _, item in parsed.objects("keys") if item.user},
            organisations={item.name: item.organisation for _, item in parsed.objects("teams")},
            projects={item.name: item for _, item in parsed.objects("projects")},
            keys={item.name: item for item in _completed_keys(parsed)},
            models=[item for _, item in parsed.objects("models")],
        )

    def missing(self, match: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Each dimension whose value does not exist, with the sentence that says so."""
        for dimension, value in match.items():
            if dimension == "environment" and value not in self.environments:
                yield dimension, f"no project has the environment {shown(value)}"
            elif dimension == "user" and self.users is not None and value not in self.users:
                yield dimension, f"no key is of the user {shown(value)}"
            elif dimension == "model" and not self.has_model(value):
                yield dimension, f"there is no model {shown(value)}"
            elif (
                dimension in {"organisation", "team", "project", "key", "provider"}
                and value not in self.names[dimension]
            ):
                yield dimension, f"there is no {dimension} {shown(value)}"

    def has_model(self, value: str) -> bool:
        """What callers can write as `model`: an alias, or a name that a `provider/*` admits."""
        return not value.endswith("/*") and _covered(value, self.names["model"])

    def contradiction(self, match: Mapping[str, str]) -> str | None:
        """Why no call can have all of these at once; None when one can."""
        if key := self.keys.get(match.get("key", "")):
            for dimension, actual in self._of_key(key).items():
                if dimension in match and match[dimension] != actual:
                    return f"the key {shown(key.name)} has {dimension} {shown(actual)}, not {shown(match[dimension])}"
            for tag, values in key.allowed_tags.items():
                if match.get(f"tag:{tag}", values[0]) not in values:
                    return f"the key {shown(key.name)} does not allow that value of the tag {shown(tag)}"
            if "model" in match and key.models and not _covered(match["model"], set(key.models)):
                return f"the key {shown(key.name)} may not use the model {shown(match['model'])}"
        if project := self.projects.get(match.get("project", "")):
            facts = {"team": project.team, "environment": project.environment}
            for dimension, actual in (facts | self._organisation(project.team)).items():
                if dimension in match and match[dimension] != actual:
                    return f"the project {shown(project.name)} has {dimension} {shown(actual)}"
        for dimension, actual in self._organisation(match.get("team", "")).items():
            if dimension in match and match[dimension] != actual:
                return f"the team {shown(match['team'])} has {dimension} {shown(actual)}"
        if reason := self._nobody(match):
            return reason
        if "provider" in match and "model" in match:
            return self._unserved(match["provider"], match["model"])
        return None

    def _nobody(self, match: Mapping[str, str]) -> str | None:
        """Why no project and no key of the file has these dimensions together; None when one has."""
        team, environment, user = match.get("team"), match.get("environment"), match.get("user")
        if (
            team
            and environment
            and not any(
                (project.team, project.environment) == (team, environment) for project in self.projects.values()
            )
        ):
            return f"the team {shown(team)} has no project with the environment {shown(environment)}"
        asked = {name: match[name] for name in ("team", "project", "environment") if name in match}
        if user and asked and self.users is not None:
            theirs = [self._of_key(key) for key in self.keys.values() if key.user == user]
            if not any(asked.items() <= dimensions.items() for dimensions in theirs):
                return f"no key of the user {shown(user)} has " + ", ".join(f"{n} {shown(v)}" for n, v in asked.items())
        return None

    def _of_key(self, key: DeclaredKey) -> dict[str, str]:
        """The dimensions that a key fixes for its calls."""
        project = self.projects.get(key.project)
        team = key.team or (project.team if project else "")
        return {
            "team": team,
            **(self._organisation(team) if team else {"organisation": DEFAULT_ORGANISATION}),
            "project": key.project,
            "environment": project.environment if project else "",
            **({"user": key.user} if key.user else {}),
            **({"customer": key.tags["customer"]} if "customer" in key.tags else {}),
            **{f"tag:{name}": value for name, value in key.tags.items()},
        }

    def _organisation(self, team: str) -> dict[str, str]:
        """Nothing of a team that is faulty itself."""
        return {"organisation": self.organisations[team]} if team in self.organisations else {}

    def _unserved(self, provider: str, model: str) -> str | None:
        models = {declared.name: declared for declared in self.models}
        serving = set() if model in models else {model.partition("/")[0]}
        for alias in _and_replacements(model, models):
            serving |= {target.provider for target in alias.targets}
        return None if provider in serving else f"the provider {shown(provider)} serves no model {shown(model)}"
