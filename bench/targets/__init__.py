"""The gateways that are measured; one file each."""

from __future__ import annotations

from bench.targets.dujiang import Dujiang
from bench.targets.ferrogw import Ferrogw
from bench.targets.litellm import LiteLLM
from bench.targets.nginx import Nginx
from bench.targets.portkey import Portkey
from bench.targets.target import Place, Target

__all__ = ["TARGETS", "Nginx", "Place", "Target"]

TARGETS: dict[str, Target] = {target.name: target for target in (Nginx(), Dujiang(), Ferrogw(), Portkey(), LiteLLM())}
