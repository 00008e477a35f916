"""A deployment: vendor, credential and vendor model, with all that is needed to send it a call."""

from __future__ import annotations

from urllib.parse import urlsplit

from dujiang import __version__
from dujiang.config.schema import CredentialSection, DeploymentSection, VendorSection
from dujiang.terms import Dialect, Operation
from dujiang.vendors.http_client import Origin, Timeouts
from dujiang.vendors.profile_schema import Face, Profile
from dujiang.vendors.profiles import load_profile

_TARGETS: dict[Operation, tuple[Operation, ...]] = {
    Operation.CHAT: (Operation.CHAT, Operation.MESSAGES),
    Operation.RESPONSES: (Operation.RESPONSES, Operation.CHAT, Operation.MESSAGES),
    Operation.MESSAGES: (Operation.MESSAGES, Operation.CHAT),
    Operation.COUNT_TOKENS: (Operation.COUNT_TOKENS,),
    Operation.EMBEDDINGS: (Operation.EMBEDDINGS,),
}
"""What a call may be sent as, the closest first."""

_DIALECTS = {
    Operation.CHAT: Dialect.CHAT,
    Operation.RESPONSES: Dialect.RESPONSES,
    Operation.MESSAGES: Dialect.MESSAGES,
    Operation.COUNT_TOKENS: Dialect.MESSAGES,
    Operation.EMBEDDINGS: Dialect.EMBEDDINGS,
}


class VendorLink:
    """How one configured vendor is reached: shared by all its deployments."""

    __slots__ = ("forwarded", "forwarded_prefixes", "name", "origin", "path", "profile", "timeouts")

    def __init__(self, name: str, section: VendorSection) -> None:
        self.name = name
        self.profile: Profile = load_profile(section.profile)
        base_url = section.base_url or self.face(section).base_url
        if not base_url:
            raise ValueError(f"vendors.{name}.base_url: the profile {section.profile!r} has none; name the address")
        self.origin = Origin(
            base_url, proxy=section.proxy, ca_file=section.ca_file, max_connections=section.max_connections
        )
        self.path = urlsplit(base_url).path.rstrip("/")
        self.timeouts = Timeouts(
            section.timeouts.connect,
            section.timeouts.first_byte,
            section.timeouts.between_bytes,
            section.timeouts.total,
        )
        names = [name.lower().encode() for name in section.forward_headers]
        self.forwarded = frozenset(name for name in names if not name.endswith(b"*"))
        self.forwarded_prefixes = tuple(name[:-1] for name in names if name.endswith(b"*"))

    def face(self, section: VendorSection) -> Face:
        """Return the protocol face the configuration chose."""
        face = self.profile.face(section.protocol)
        if face is None:
            raise ValueError(
                f"vendors.{self.name}.protocol: the profile {self.profile.name!r} knows no {section.protocol} address"
            )
        return face


class Deployment:
    """What a call can be sent to."""

    __slots__ = (
        "_heads",
        "_targets",
        "account",
        "asks_for_usage",
        "credential",
        "header_line",
        "link",
        "max_tokens_field",
        "model",
        "name",
        "tokenizer",
        "vendor",
    )

    def __init__(
        self, link: VendorLink, vendor: VendorSection, credential: CredentialSection, section: DeploymentSection
    ) -> None:
        self.link = link
        self.vendor = link.name
        self.credential = credential.name
        self.model = section.model
        self.name = f"{link.name}/{credential.name}/{section.model}"
        self.header_line = b"x-dujiang-deployment: %b\r\n" % self.name.encode("ascii", "replace")
        known = link.profile.model(section.model)
        self.tokenizer = known.tokenizer if known is not None else "none"
        face = link.face(vendor)
        self.asks_for_usage = face.stream_usage == "option"
        """Whether chat streams tell their usage only when `stream_options.include_usage` asks for it."""
        self.max_tokens_field = face.max_tokens_field
        """What the vendor calls the most tokens of a chat answer."""
        self.account = (link.name, credential.owner or credential.name)
        self._heads: dict[Operation, bytes] = {}
        for operation in Operation:
            target = face.target(operation, section.model)
            if target is not None:
                self._heads[operation] = _head(link, face, credential, target)
        self._targets = {
            operation: next((target for target in _TARGETS[operation] if target in self._heads), None)
            for operation in Operation
        }

    def sent_as(self, operation: Operation) -> Operation | None:
        """Return the operation a call is sent as, the closest this vendor serves; None if there is none."""
        return self._targets[operation]

    def keeps_state(self) -> bool:
        """Return whether stored responses can be continued here."""
        return self.link.profile.keeps_state and Operation.RESPONSES in self._heads

    def request(self, operation: Operation, body: bytes, headers: dict[bytes, bytes]) -> tuple[bytes, ...]:
        """Return the request in pieces; of the client's headers those go along that this vendor is to see."""
        head = self._heads[operation]
        link = self.link
        names = link.forwarded & headers.keys()
        if link.forwarded_prefixes:
            names |= {name for name in headers if name.startswith(link.forwarded_prefixes)}
        extra = b"".join([b"%b: %b\r\n" % (name, headers[name]) for name in names]) if names else b""
        return (head, b"%bcontent-length: %d\r\n\r\n" % (extra, len(body)), body)


def dialect_sent(operation: Operation) -> Dialect:
    """Return the wire format of an operation."""
    return _DIALECTS[operation]


def _head(link: VendorLink, face: Face, credential: CredentialSection, target: str) -> bytes:
    """Return request line and fixed headers, to be followed by the length and the body."""
    key = credential.key.get_secret_value()
    lines = [
        f"POST {link.origin.absolute_prefix.decode()}{link.path}{target} HTTP/1.1",
        f"host: {link.origin.authority}",
        f"{face.auth.header}: {face.auth.value(key)}",
        "content-type: application/json",
        "accept: application/json, text/event-stream",
        "accept-encoding: identity",
        f"user-agent: dujiang/{__version__}",
        *(f"{name.lower()}: {value}" for name, value in face.headers.items()),
    ]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError(f"vendors.{link.name}: a key, header or model name holds a line break")
    head = "\r\n".join(lines).encode() + b"\r\n"
    if link.origin.absolute_prefix:
        head += link.origin.proxy_authorization
    return head
