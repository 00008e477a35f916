"""Checks what one part of a configuration says of another: names that must exist, rules that must match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from dujiang.config.schema import Config, KeySection, Limit

Finding = tuple[tuple[str | int, ...], str]


def check_references(config: Config) -> Iterator[Finding]:
    """Yield a (path, message) for every name that leads nowhere and every rule that matches nothing."""
    yield from _vendors(config)
    yield from _models(config)
    yield from _plans(config)
    yield from _tenants(config)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"there is no {what} {name!r}; did you mean {close[0]!r}?"
    return f"there is no {what} {name!r}; there are: {', '.join(known) or 'none'}"


def _vendors(config: Config) -> Iterator[Finding]:
    for vendor_name, vendor in config.vendors.items():
        seen: set[str] = set()
        for index, credential in enumerate(vendor.credentials):
            path = ("vendors", vendor_name, "credentials", index)
            if credential.name in seen:
                yield (
                    (*path, "name"),
                    f"a second credential {credential.name!r}; names are unique in a vendor",
                )
            seen.add(credential.name)
            deployed = {
                deployment.model
                for model in config.models.values()
                for deployment in model.deployments
                if (deployment.vendor, deployment.credential) == (vendor_name, credential.name)
            }
            for number, limit in enumerate(credential.limits):
                for position, model in enumerate(limit.models):
                    if model not in deployed:
                        yield (
                            (*path, "limits", number, "models", position),
                            "this limit matches nothing: " + _unknown("deployed vendor model", model, deployed),
                        )


def _models(config: Config) -> Iterator[Finding]:
    names: dict[str, str] = {}
    for name, model in config.models.items():
        for alias in (name, *model.aliases):
            if alias in names:
                yield ("models", name), f"the name {alias!r} is taken by model {names[alias]!r} already"
            names[alias] = name
        if model.strategy == "weighted" and not any(d.weight for d in model.deployments):
            yield ("models", name, "deployments"), "every weight is 0, so no call could go; raise one"
        for index, deployment in enumerate(model.deployments):
            path = ("models", name, "deployments", index)
            vendor = config.vendors.get(deployment.vendor)
            if vendor is None:
                yield (*path, "vendor"), _unknown("vendor", deployment.vendor, config.vendors)
                continue
            credentials = [credential.name for credential in vendor.credentials]
            if deployment.credential not in credentials:
                yield (*path, "credential"), _unknown("credential", deployment.credential, credentials)


def _plans(config: Config) -> Iterator[Finding]:
    names = _model_names(config)
    for plan_name, plan in config.plans.items():
        for index, model in enumerate(plan.models):
            if model not in names:
                yield ("plans", plan_name, "models", index), _unknown("model", model, names)
        yield from _limits(names, ("plans", plan_name, "limits"), plan.limits)


def _limits(names: set[str], path: tuple[str | int, ...], limits: tuple[Limit, ...]) -> Iterator[Finding]:
    for number, limit in enumerate(limits):
        for position, model in enumerate(limit.models):
            if model not in names:
                yield (
                    (*path, number, "models", position),
                    "this limit matches nothing: " + _unknown("model", model, names),
                )


def _tenants(config: Config) -> Iterator[Finding]:
    seen_tenants: set[str] = set()
    secrets: dict[str, str] = {}
    for index, tenant in enumerate(config.tenants):
        path = ("tenants", index)
        if tenant.id in seen_tenants:
            yield (*path, "id"), f"a second tenant {tenant.id!r}; ids are unique"
        seen_tenants.add(tenant.id)
        if tenant.plan not in config.plans:
            yield (*path, "plan"), _unknown("plan", tenant.plan, config.plans)
        yield from _keys(config, (*path, "keys"), tenant.keys, secrets, f"{tenant.id}/default")
        projects = {"default"}
        for number, project in enumerate(tenant.projects):
            inner = (*path, "projects", number)
            if project.id in projects:
                yield (
                    (*inner, "id"),
                    f"a second project {project.id!r}; `default` holds the tenant's own keys",
                )
            projects.add(project.id)
            yield from _limits(_model_names(config), (*inner, "limits"), project.limits)
            yield from _keys(config, (*inner, "keys"), project.keys, secrets, f"{tenant.id}/{project.id}")


def _keys(
    config: Config,
    path: tuple[str | int, ...],
    keys: tuple[KeySection, ...],
    secrets: dict[str, str],
    whose: str,
) -> Iterator[Finding]:
    names = _model_names(config)
    seen: set[str] = set()
    for index, key in enumerate(keys):
        if key.name in seen:
            yield (*path, index, "name"), f"a second key {key.name!r}; names are unique in a project"
        seen.add(key.name)
        secret = key.secret.get_secret_value()
        if secret in secrets:
            yield (*path, index, "secret"), f"the same secret as {secrets[secret]}; every key needs its own"
        secrets[secret] = f"{whose}/{key.name}"
        yield from _limits(names, (*path, index, "limits"), key.limits)
        for position, model in enumerate(key.models):
            if model not in names:
                yield (*path, index, "models", position), _unknown("model", model, names)


def _model_names(config: Config) -> set[str]:
    return {name for model_name, model in config.models.items() for name in (model_name, *model.aliases)}
