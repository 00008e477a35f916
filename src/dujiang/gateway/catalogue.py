"""The configuration as the gateway uses it: models with their deployments, and what each key may do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from dujiang.accounts.keys import Key
from dujiang.admission.demand import Charge
from dujiang.admission.meters import Meter
from dujiang.admission.scheduler import Candidate
from dujiang.config.schema import (
    Config,
    CredentialSection,
    DeploymentSection,
    Limit,
    ModelSection,
    PlanSection,
    TenantSection,
    VendorSection,
    priority_of,
)
from dujiang.errors import InvalidKey, ModelNotFound, NotAllowed
from dujiang.gateway.meter_book import MeterBook, in_order
from dujiang.gateway.shown_limits import ShownLimits
from dujiang.terms import Priority
from dujiang.vendors.deployments import Deployment, VendorLink
from dujiang.vendors.profile_schema import Profile


class Route:
    """A model: where it can be sent, and how a deployment is chosen among those with room."""

    __slots__ = ("_credits", "_weights", "candidates", "name", "weighted")

    def __init__(self, name: str, candidates: Sequence[Candidate[Deployment]], weights: Sequence[int] | None) -> None:
        self.name = name
        self.candidates = tuple(candidates)
        self.weighted = weights is not None
        self._weights = list(weights or [])
        self._credits = [0] * len(self._weights)

    def ordered(self) -> Sequence[Candidate[Deployment]]:
        """Return the candidates in the order to try them; with weights, each comes first by its share."""
        if not self.weighted or len(self.candidates) == 1:
            return self.candidates
        for index, weight in enumerate(self._weights):
            self._credits[index] += weight
        order = sorted(range(len(self._weights)), key=lambda index: -self._credits[index])
        self._credits[order[0]] -= sum(self._weights)
        return [self.candidates[index] for index in order if self._weights[index]]


class Entitlement:
    """What one key may do with one model."""

    __slots__ = ("max_priority", "meters", "patience_ns", "priority", "route", "shown")

    def __init__(self, route: Route, meters: tuple[Meter, ...], plan: PlanSection) -> None:
        self.route = route
        self.meters = meters
        self.shown = ShownLimits(meters)
        self.priority: Priority = priority_of(plan.priority)
        self.max_priority: Priority = priority_of(plan.max_priority)
        self.patience_ns = plan.wait_at_limit


class Catalogue:
    """Models and entitlements of one configuration; a reload makes a new one on the same meters."""

    def __init__(self, config: Config, book: MeterBook) -> None:
        self._config = config
        self._book = book
        self.links = {name: VendorLink(name, section) for name, section in config.vendors.items()}
        # All that can fail comes first: a configuration that is refused must not touch the limits in force.
        deployments = {
            name: [self._deployment(part) for part in one.deployments] for name, one in config.models.items()
        }
        book.begin()
        self.routes: dict[str, Route] = {}
        for name, section in config.models.items():
            route = self._route(name, section, deployments[name])
            for alias in (name, *section.aliases):
                self.routes[alias] = route
        self._tenants = {tenant.id: tenant for tenant in config.tenants}
        self._entitlements: dict[tuple[str, str], Entitlement] = {}
        for tenant in config.tenants:
            self._name_limits(tenant)
        book.finish()

    def entitlement(self, key: Key, model: str) -> Entitlement:
        """Return what a key may do with a model; raises ModelNotFound, NotAllowed."""
        found = self._entitlements.get((key.id, model))
        if found is None:
            found = self._entitlements[key.id, model] = self._entitle(key, model)
        return found

    def forget_keys(self) -> None:
        """Look every key up again: keys were made or revoked."""
        self._entitlements.clear()

    def model_names(self, key: Key) -> list[str]:
        """Return the models a key may use."""
        tenant, plan = self._plan(key)
        return [name for name in self.routes if self._may_use(key, plan, tenant, name)]

    def deployments(self) -> list[Candidate[Deployment]]:
        """Return every deployment once."""
        found: dict[int, Candidate[Deployment]] = {}
        for route in self.routes.values():
            for candidate in route.candidates:
                found[id(candidate)] = candidate
        return list(found.values())

    def tenant_meters(self, key: Key) -> list[Meter]:
        """Return every limit that counts calls of a key, for any model."""
        tenant, plan = self._plan(key)
        return [self._book.meter(scope, limit) for scope, limit in self._limits(tenant, plan, key)]

    def _credential(self, part: DeploymentSection) -> CredentialSection:
        credentials = self._config.vendors[part.vendor].credentials
        return next(one for one in credentials if one.name == part.credential)

    def _deployment(self, part: DeploymentSection) -> Deployment:
        return Deployment(self.links[part.vendor], self._config.vendors[part.vendor], self._credential(part), part)

    def _route(self, name: str, section: ModelSection, deployments: Sequence[Deployment]) -> Route:
        candidates: list[Candidate[Deployment]] = []
        for part, deployment in zip(section.deployments, deployments, strict=True):
            vendor, credential = self._config.vendors[part.vendor], self._credential(part)
            meters = self._vendor_meters(deployment.link.profile, vendor, part.vendor, credential, part.model)
            candidates.append(Candidate(deployment, in_order(meters)))
        weights = [part.weight for part in section.deployments] if section.strategy == "weighted" else None
        return Route(name, candidates, weights)

    def _vendor_meters(
        self, profile: Profile, vendor: VendorSection, vendor_name: str, credential: CredentialSection, model: str
    ) -> Iterable[Meter]:
        # Accounts of one declared owner are one account to the vendor, so they share its limits.
        scope = f"vendor {vendor_name}/{credential.owner or credential.name}"
        spread_ns = vendor.network_spread
        lag_ns = vendor.release_lag if vendor.release_lag is not None else profile.release_lag_ns
        for limit in credential.limits:
            if limit.models and model not in limit.models:
                continue
            rule = profile.limit_rule(limit.dimension, limit.window)
            charge = Charge(rule.charge) if rule is not None else Charge.ACTUAL
            inner = f"{scope} {model}" if rule is not None and rule.per_model and not limit.models else scope
            yield self._book.meter(inner, limit, spread_ns=spread_ns, lag_ns=lag_ns, charge=charge)
            slice_ns = limit.slice or (rule.slice_ns if rule is not None and limit.shape is None else None)
            if slice_ns and isinstance(limit.window, int) and slice_ns < limit.window:
                yield self._book.slice(inner, limit, slice_ns, spread_ns=spread_ns, charge=charge)

    def _plan(self, key: Key) -> tuple[TenantSection, PlanSection]:
        tenant = self._tenants.get(key.tenant)
        if tenant is None:
            raise InvalidKey("The API key belongs to a tenant that is not configured here.")
        if not tenant.enabled:
            raise NotAllowed(f"The tenant {tenant.id} is disabled.")
        return tenant, self._config.plans[tenant.plan]

    def _may_use(self, key: Key, plan: PlanSection, _tenant: TenantSection, model: str) -> bool:
        names = {model, self.routes[model].name}
        return not any(allowed and names.isdisjoint(allowed) for allowed in (plan.models, key.models))

    def _entitle(self, key: Key, model: str) -> Entitlement:
        tenant, plan = self._plan(key)
        route = self.routes.get(model)
        usable = [name for name in self.routes if self._may_use(key, plan, tenant, name)]
        if route is None:
            near = difflib.get_close_matches(model, usable, n=3, cutoff=0.5) or usable[:3]
            hint = f"did you mean {' or '.join(near)}?" if near else "this key may use none."
            raise ModelNotFound(f"There is no model {model[:80]!r}; {hint}", param="model")
        if model not in usable:
            raise NotAllowed(f"This key may not use the model {model!r}.", param="model")
        names = {model, route.name}
        meters = [
            self._book.meter(scope, limit)
            for scope, limit in self._limits(tenant, plan, key)
            if not limit.models or not names.isdisjoint(limit.models)
        ]
        return Entitlement(route, in_order(meters), plan)

    def _limits(self, tenant: TenantSection, plan: PlanSection, key: Key) -> Iterable[tuple[str, Limit]]:
        for limit in plan.limits:
            yield f"tenant {tenant.id}", limit
        for project in tenant.projects:
            if project.id == key.project:
                for limit in project.limits:
                    yield f"project {tenant.id}/{project.id}", limit
        for section_key in (
            *(tenant.keys if key.project == "default" else ()),
            *(one for project in tenant.projects if project.id == key.project for one in project.keys),
        ):
            if key.configured and section_key.name == key.name:
                for limit in section_key.limits:
                    yield f"key {tenant.id}/{key.project}/{key.name}", limit

    def _name_limits(self, tenant: TenantSection) -> None:
        """Name every limit of a tenant, so that a reload keeps its count."""
        plan = self._config.plans[tenant.plan]
        for limit in plan.limits:
            self._book.meter(f"tenant {tenant.id}", limit)
        projects = [("default", tenant.keys), *((project.id, project.keys) for project in tenant.projects)]
        for project in tenant.projects:
            for limit in project.limits:
                self._book.meter(f"project {tenant.id}/{project.id}", limit)
        for project_id, keys in projects:
            for section_key in keys:
                for limit in section_key.limits:
                    self._book.meter(f"key {tenant.id}/{project_id}/{section_key.name}", limit)
