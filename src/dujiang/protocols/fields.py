"""Read a request's JSON member by member; what is wrong, or left over, is refused by its path."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from dujiang.errors import InvalidRequest


def no_counterpart(where: str, target: str, remedy: str = "leave it out") -> InvalidRequest:
    """Return the refusal of a field that the vendor's dialect has no word for."""
    return InvalidRequest(
        f"{where} has no counterpart in the {target} dialect, which the vendor of this model speaks; {remedy}.",
        param=where,
    )


class Fields:
    """One JSON object of a request and its path, such as `messages[2].content[0]`.

    Every reading method takes its member off the object and returns `None` for one that is absent or null;
    `refuse_rest` then names a member that nobody has taken. All raise InvalidRequest with the path in `param`.
    """

    def __init__(self, value: object, path: str = "") -> None:
        if not isinstance(value, dict):
            raise InvalidRequest(f"{path or 'the body'} must be an object.", param=path or None)
        self._members: dict[str, object] = dict(value)
        self.path = path

    @classmethod
    def of_body(cls, body: bytes) -> Fields:
        """Return the fields of a whole request body."""
        try:
            return cls(msgspec.json.decode(body))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"The body is not valid JSON: {error}.") from error
        except RecursionError:
            raise InvalidRequest("The body is nested too deeply.") from None

    def path_of(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def take(self, name: str) -> object:
        """Return a member whatever it is."""
        return self._members.pop(name, None)

    def require(self, name: str) -> object:
        """Return a member that must be there."""
        value = self.take(name)
        if value is None:
            raise InvalidRequest(f"{self.path_of(name)} is required.", param=self.path_of(name))
        return value

    def text(self, name: str) -> str | None:
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def required_text(self, name: str) -> str:
        value = self.require(name)
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def integer(self, name: str, at_least: int = 0) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
            raise self.wrong(name, f"a whole number of at least {at_least}")
        return value

    def number(self, name: str) -> float | None:
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.wrong(name, "a number")
        return value

    def boolean(self, name: str) -> bool | None:
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def members(self, name: str) -> dict[str, object] | None:
        """Return a member that is an object whose insides are passed on as they are (a JSON schema)."""
        value = self.take(name)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return value

    def inner(self, name: str) -> Fields | None:
        """Return a member that is an object, to be read in its turn."""
        value = self.take(name)
        return None if value is None else Fields(value, self.path_of(name))

    def required_inner(self, name: str) -> Fields:
        return Fields(self.require(name), self.path_of(name))

    def items(self, name: str) -> Iterator[Fields]:
        """Return the objects of a member that is a list of objects; nothing when it is absent or null."""
        value = self.take(name)
        if value is None:
            return iter(())
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        return (Fields(item, f"{self.path_of(name)}[{index}]") for index, item in enumerate(value))

    def texts(self, name: str) -> list[str]:
        """Return a member that is a list of strings, or one string."""
        value = self.take(name)
        if value is None:
            return []
        if isinstance(value, str):
            return [value]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a string or a list of strings")
        return [str(item) for item in value]

    def drop(self, *names: str) -> None:
        """Take off members that change nothing of what the model is asked."""
        for name in names:
            self._members.pop(name, None)

    def refuse_unless(self, name: str, target: str, *harmless: object) -> None:
        """Take off a member that can only be translated when it has one of these values (or is null)."""
        value = self.take(name)
        if value is not None and not any(value is one or (value == one and value is not True) for one in harmless):
            raise no_counterpart(self.path_of(name), target)

    def refuse_rest(self, target: str) -> None:
        """Raise for the first member that has a value and that nobody has taken."""
        for name, value in self._members.items():
            if value is not None:
                raise no_counterpart(self.path_of(name), target)

    def wrong(self, name: str, expected: str) -> InvalidRequest:
        """Return the refusal of a member of the wrong type or value."""
        return InvalidRequest(f"{self.path_of(name)} must be {expected}.", param=self.path_of(name))
