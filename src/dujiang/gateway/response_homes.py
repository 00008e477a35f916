"""Where stored responses are: a call that continues one must reach the deployment that keeps it."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence

from dujiang.admission.scheduler import Candidate
from dujiang.vendors.deployments import Deployment

_ID = re.compile(rb'"id": ?"(resp[^"]{1,200})"')
_HOMES_MAX = 20_000
_LOOK_BYTES = 4096


class ResponseHomes:
    """Remembers the deployment of each stored response, the latest 20,000 of this worker."""

    def __init__(self) -> None:
        self._homes: OrderedDict[str, str] = OrderedDict()

    def note(self, answer: bytes, deployment: Deployment) -> None:
        """Take note of where an answer, or the beginning of its stream, came from."""
        found = _ID.search(answer, 0, _LOOK_BYTES)
        if found is None:
            return
        self._homes[found[1].decode("latin-1")] = deployment.name
        if len(self._homes) > _HOMES_MAX:
            self._homes.popitem(last=False)

    def candidates(
        self, response_id: str, candidates: Sequence[Candidate[Deployment]]
    ) -> Sequence[Candidate[Deployment]]:
        """Return the candidate that keeps the response; all of them when that is not known here."""
        home = self._homes.get(response_id)
        return [one for one in candidates if one.target.name == home] or candidates
