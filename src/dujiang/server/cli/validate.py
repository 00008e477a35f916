"""`dujiang validate`: every mistake of a configuration, and what it needs of the world around it."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from dujiang.config import Config, Problem
from dujiang.config.loading import KeyPath, line_of, render_path
from dujiang.config.schema import VendorSection
from dujiang.server.cli.configured import DEFAULT_PATH, configured, end_with_problems
from dujiang.server.cli.host_check import storage_problem
from dujiang.server.cli.language import say


def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The configuration.")] = DEFAULT_PATH,
) -> None:
    """Name every mistake in a configuration, each with its remedy."""
    config = configured(file)
    problems = around(config, file.read_text(encoding="utf-8"))
    if problems:
        end_with_problems(file, problems)
    typer.secho(say("valid", path=file), fg="green")
    for line in _summary(config):
        typer.echo(line)


def around(config: Config, text: str) -> list[Problem]:
    """Return the mistakes only the world around can tell: profiles, addresses, files, the storage."""
    return [Problem(render_path(path), message, line_of(text, path)) for path, message in _around(config)]


def _around(config: Config) -> Iterator[tuple[KeyPath, str]]:
    for name, vendor in config.vendors.items():
        found = list(_vendor(name, vendor))
        yield from found
        if not found:
            yield from _deployments(config, name, vendor)
    problem = storage_problem(config.storage.url)
    if problem is not None:
        yield ("storage", "url"), problem


def _vendor(name: str, vendor: VendorSection) -> Iterator[tuple[KeyPath, str]]:
    from dujiang.vendors.profiles import ProfileInvalid, load_profile

    path = ("vendors", name)
    if vendor.ca_file is not None:
        try:
            ssl.create_default_context(cafile=vendor.ca_file)
        except (OSError, ssl.SSLError) as error:
            yield (*path, "ca_file"), say("ca_file_unusable", path=vendor.ca_file, reason=error.strerror or error)
    try:
        profile = load_profile(vendor.profile)
    except ProfileInvalid as invalid:
        yield (*path, "profile"), str(invalid)
        return
    face = profile.face(vendor.protocol)
    if face is None:
        served = ", ".join(one for one in ("openai", "anthropic") if profile.face(one) is not None)
        yield (*path, "protocol"), say("protocol_not_served", profile=vendor.profile, served=served)
    elif not (vendor.base_url or face.base_url):
        yield (*path, "base_url"), say("no_base_url", profile=vendor.profile)


def _deployments(config: Config, name: str, vendor: VendorSection) -> Iterator[tuple[KeyPath, str]]:
    """Put together what calls will be sent with, to hear what that says."""
    from dujiang.vendors.deployments import Deployment, VendorLink

    if vendor.ca_file is not None:
        vendor = vendor.model_copy(update={"ca_file": None})  # looked at already
    try:
        link = VendorLink(name, vendor)
    except ValueError as error:
        yield ("vendors", name), str(error)
        return
    for model_name, model in config.models.items():
        for index, section in enumerate(model.deployments):
            if section.vendor != name:
                continue
            credential = next(one for one in vendor.credentials if one.name == section.credential)
            try:
                Deployment(link, vendor, credential, section)
            except ValueError as error:
                yield ("models", model_name, "deployments", index), str(error)


def _summary(config: Config) -> Iterator[str]:
    credentials = [one for vendor in config.vendors.values() for one in vendor.credentials]
    keys = [(tenant.id, key) for tenant in config.tenants for key in tenant.keys] + [
        (tenant.id, key) for tenant in config.tenants for project in tenant.projects for key in project.keys
    ]
    limits = sum(len(one.limits) for one in (*credentials, *config.plans.values(), *(key for _, key in keys)))
    limits += sum(len(project.limits) for tenant in config.tenants for project in tenant.projects)
    yield say("summary_vendors", count=len(config.vendors), credentials=len(credentials), names=_names(config.vendors))
    yield say("summary_models", count=len(config.models), names=_names(config.models))
    yield say("summary_tenants", count=len(config.tenants), keys=len(keys), names=_names(t.id for t in config.tenants))
    yield say("summary_limits", count=limits)
    if not config.models:
        yield say("note_no_models")
    if not config.tenants:
        yield say("note_no_tenants")


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    shown = ", ".join(listed[:8])
    return f"{shown}, …" if len(listed) > 8 else shown or "–"
