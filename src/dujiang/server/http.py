"""The routes: calls go to the pipeline, everything else to the pages."""

from __future__ import annotations

from dujiang.clock import Clock
from dujiang.errors import DujiangError, MethodNotAllowed
from dujiang.gateway.answer_headers import header_lines
from dujiang.gateway.pipeline import Pipeline
from dujiang.protocols.error_bodies import error_body, error_headers, error_status
from dujiang.server.http_request import HttpRequest
from dujiang.server.pages import Pages
from dujiang.terms import Dialect, Operation

_OPERATIONS = {
    b"/v1/chat/completions": Operation.CHAT,
    b"/v1/responses": Operation.RESPONSES,
    b"/v1/messages": Operation.MESSAGES,
    b"/v1/messages/count_tokens": Operation.COUNT_TOKENS,
    b"/v1/embeddings": Operation.EMBEDDINGS,
}


class Routes:
    """Decides by method and path who answers a request."""

    def __init__(self, pipeline: Pipeline, pages: Pages, clock: Clock) -> None:
        self.pipeline = pipeline
        self.pages = pages
        self._clock = clock

    async def handle(self, request: HttpRequest) -> None:
        """Answer one request."""
        operation = _OPERATIONS.get(request.url)
        if operation is not None and request.method == b"POST":
            request.operation = operation
            await self.pipeline.run(request, request)
            return
        try:
            if operation is not None:
                raise MethodNotAllowed(f"{request.url.decode()} takes POST.", headers={"allow": "POST"})
            status, content_type, body = await self.pages.answer(request)
            headers = [(b"content-type", content_type)]
        except DujiangError as error:
            dialect = Dialect.MESSAGES if request.url.startswith(b"/v1/messages") else Dialect.CHAT
            status, body = error_status(error, dialect), error_body(error, dialect, request.request_id)
            headers = [(b"content-type", b"application/json"), *error_headers(error)]
        headers.append((b"x-request-id", request.request_id.encode()))
        await request.answer(status, header_lines(headers), body)
