"""What to make of a vendor that did not answer: what it means, whether to try again, and what the caller hears."""

from __future__ import annotations

from dujiang.admission.scheduler import Candidate
from dujiang.clock import MILLISECOND, SECOND, Instant
from dujiang.errors import ContextTooLong, DujiangError, VendorFailed, VendorRefused, VendorTimeout
from dujiang.protocols.vendor_errors import VendorError, filtered_message
from dujiang.terms import Usage
from dujiang.vendors.deployments import Deployment
from dujiang.vendors.refusals import Meaning
from dujiang.vendors.transport_errors import ConnectFailed, TransportError

_PAUSES_NS = {
    Meaning.RATE: 1 * SECOND,
    Meaning.CONCURRENCY: 50 * MILLISECOND,
    Meaning.GROWTH: 2 * SECOND,
    Meaning.BUSY: 500 * MILLISECOND,
    Meaning.OVERLOAD: 1 * SECOND,
    Meaning.MONEY: 300 * SECOND,
    Meaning.DAY: 300 * SECOND,
    Meaning.KEY: 60 * SECOND,
}
_PAUSE_MAX_NS = 300 * SECOND
DEAD_ACCOUNT = (Meaning.MONEY, Meaning.DAY, Meaning.KEY)
"""What concerns a whole account: all its deployments pause."""
_REFUSALS_MAX = 8
"""How often a call may be sent again after a refusal that cost nothing."""
_FAILURES_MAX = 2
"""How often a call may be sent again after a breakdown."""


class VendorTrouble(Exception):
    """One attempt that brought no answer."""

    def __init__(
        self, meaning: Meaning, error: DujiangError, *, status: int = 0, pause_ns: int | None = None, sent: bool = True
    ) -> None:
        super().__init__(meaning)
        self.meaning = meaning
        self.error = error
        self.status = status
        self.sent = sent
        self.pause_ns = _PAUSES_NS.get(meaning, 0) if pause_ns is None else min(pause_ns, _PAUSE_MAX_NS)

    @property
    def is_final(self) -> bool:
        """Return whether the same call would fail anywhere."""
        return self.meaning in (Meaning.INVALID, Meaning.CONTEXT)

    @property
    def is_refusal(self) -> bool:
        """Return whether the vendor did no work for it, so that trying again costs nothing."""
        return self.meaning in (Meaning.RATE, Meaning.CONCURRENCY, Meaning.GROWTH, Meaning.BUSY)

    def vendor_usage(self, deployment: Deployment, estimate: Usage) -> Usage:
        """Return what the vendor counts for this attempt."""
        if not self.sent:
            return Usage(requests=0)
        if self.status >= 400:
            return Usage(requests=1 if deployment.link.profile.refused_count else 0)
        # It took the request and fell silent: it may have done all the work.
        return estimate


def refused(deployment: Deployment, error: VendorError, retry_after_ns: int | None) -> VendorTrouble:
    """Return what an error answer of a vendor means here."""
    meaning = deployment.link.profile.refusal(error.status, error.code, error.type, error.message)
    return VendorTrouble(meaning, _told(meaning, error), status=error.status, pause_ns=retry_after_ns)


def unreachable(error: TransportError) -> VendorTrouble:
    """Return what a failed exchange of bytes means here."""
    told: DujiangError
    if error.timed_out:
        told = VendorTimeout(f"The vendor did not answer in time ({error.phase}).")
    elif isinstance(error, ConnectFailed):
        told = VendorFailed("The vendor could not be reached.")
    else:
        told = VendorFailed("The vendor broke off its answer.")
    return VendorTrouble(Meaning.FAILED, told, sent=error.sent)


def may_try_again(trouble: VendorTrouble, attempts: list[Meaning], *, others: bool) -> bool:
    """Return whether a call whose attempts so far meant these things is sent once more.

    `others` tells whether another deployment could take it; where none can, a dead account is final.
    """
    if trouble.is_final:
        return False
    if trouble.meaning in DEAD_ACCOUNT and not others:
        return False
    refusals = sum(meaning in (Meaning.RATE, Meaning.CONCURRENCY, Meaning.GROWTH, Meaning.BUSY) for meaning in attempts)
    return refusals <= _REFUSALS_MAX if trouble.is_refusal else len(attempts) - refusals <= _FAILURES_MAX


def backoff_s(attempts: int) -> float:
    """Return how long a call waits before it is sent to the same deployment again: 0.2 s, then 0.4 s."""
    return 0.1 * 2**attempts


def pause(candidate: Candidate[Deployment], trouble: VendorTrouble, now: Instant) -> None:
    """Leave a deployment alone for as long as its refusal asks; a longer pause already running stays."""
    if trouble.pause_ns and not trouble.is_final and trouble.meaning is not Meaning.FAILED:
        candidate.available_at = max(candidate.available_at, Instant(now + trouble.pause_ns))


def _told(meaning: Meaning, error: VendorError) -> DujiangError:
    """Return what the caller hears: his own mistakes in the vendor's words, the vendor's troubles in ours."""
    match meaning:
        case Meaning.INVALID | Meaning.CONTEXT:
            kind = ContextTooLong if meaning is Meaning.CONTEXT and error.status != 413 else VendorRefused
            told = kind(filtered_message(error.message) or "The vendor refused this request as invalid.")
            told.param = error.param
            if isinstance(told, VendorRefused):
                told.status = error.status if 400 <= error.status < 500 else 400
                told.code = error.code
            return told
        case Meaning.KEY:
            return VendorFailed("The vendor does not accept this gateway's credential.")
        case Meaning.MONEY:
            return VendorFailed("This gateway's account at the vendor has no credit left.")
        case Meaning.DAY:
            return VendorFailed("This gateway's quota at the vendor is used up for today.")
        case Meaning.OVERLOAD | Meaning.BUSY:
            return VendorFailed("The vendor is overloaded.")
        case Meaning.RATE | Meaning.CONCURRENCY | Meaning.GROWTH:
            return VendorFailed("The vendor refused this call for its rate, again and again.")
        case _:
            return VendorFailed("The vendor failed to answer.")
