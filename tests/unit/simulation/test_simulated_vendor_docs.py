"""The pages about the simulated vendor say what there is, in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from dujiang.simulation.faults import FaultKind
from dujiang.simulation.spec import VendorSpec

PAGES = Path(__file__).parents[3] / "docs" / "how-to"


@pytest.mark.parametrize("name", ["simulated-vendor.md", "simulated-vendor.zh.md"])
def test_every_setting_and_fault_has_its_row_and_the_example_loads(name):
    page = (PAGES / name).read_text("utf-8")
    rows = set(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE))
    assert rows == set(VendorSpec.model_fields) | set(FaultKind)
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    path = PAGES / name
    assert len(VendorSpec.build(yaml.safe_load(example), str(path)).faults) == 3
    command = re.search(r"```sh\n(.*?)```", page, re.DOTALL)[1]
    limits = re.findall(r"--limit (\S+)", command)
    assert len(VendorSpec.build({"limits": limits}).limits) == 3
