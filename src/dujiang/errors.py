"""One tree of errors; a class's docstring is its default message.

Rooms raise causes. Only `protocols/error_bodies.py` knows how a dialect spells them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from dujiang.terms import Source


class DujiangError(Exception):
    """Something went wrong inside the gateway."""

    status: int = 500
    type: str = "server_error"
    code: str | None = "internal_error"
    source: Source = Source.GATEWAY
    retry: bool = False
    """Whether the same call may succeed later without being changed."""

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        retry_after_ns: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message = message or inspect.cleandoc(type(self).__doc__ or "").split("\n\n")[0]
        self.param = param
        self.retry_after_ns = retry_after_ns
        self.headers = dict(headers) if headers else {}
        super().__init__(self.message)


def forget_trace(error: BaseException) -> None:
    """Cut an error off from the frames and errors it came through, so that it holds nothing of a call any more."""
    error.__traceback__ = error.__cause__ = error.__context__ = None


class InvalidRequest(DujiangError):
    """The request is not valid."""

    status = 400
    type = "invalid_request_error"
    code = None
    source = Source.CALLER


class ContextTooLong(InvalidRequest):
    """The request is longer than the model's context."""

    code = "context_length_exceeded"


class InvalidKey(DujiangError):
    """The API key is missing, unknown, expired or revoked."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"
    source = Source.CALLER


class NotAllowed(DujiangError):
    """This key may not do that."""

    status = 403
    type = "permission_error"
    code = "permission_denied"
    source = Source.TENANT


class NotFound(InvalidRequest):
    """There is nothing at this address."""

    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    """There is no such model."""

    code = "model_not_found"


class MethodNotAllowed(InvalidRequest):
    """This address does not take that method."""

    status = 405
    code = "method_not_allowed"


class RequestTimeout(InvalidRequest):
    """The request did not arrive in time."""

    status = 408
    code = "request_timeout"


class BodyTooLarge(InvalidRequest):
    """The request body is larger than this gateway accepts."""

    status = 413
    code = "request_too_large"


class RateLimited(DujiangError):
    """A rate limit of the caller is reached."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"
    source = Source.TENANT
    retry = True


class QuotaExhausted(DujiangError):
    """The quota of the caller is used up."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"
    source = Source.TENANT


class Overloaded(DujiangError):
    """The gateway cannot take this call now."""

    status = 503
    code = "overloaded"
    retry = True


class QueueFull(Overloaded):
    """Too many calls are waiting already."""


class DeadlineUnreachable(Overloaded):
    """The call could not be answered before its deadline."""


class Draining(Overloaded):
    """This gateway is shutting down."""


class VendorFailed(DujiangError):
    """The vendor failed to answer."""

    status = 502
    code = "upstream_error"
    source = Source.VENDOR


class VendorTimeout(VendorFailed):
    """The vendor did not answer in time."""

    status = 504
    code = "upstream_timeout"


class VendorRefused(DujiangError):
    """The vendor refused this call as invalid.

    The caller's mistake, found by the vendor: its status (400, 404, 413, 422) is relayed.
    """

    status = 400
    type = "invalid_request_error"
    code = None
    source = Source.CALLER
