"""What OpenAI's two dialects, chat and responses, spell alike inside their messages and formats."""

from __future__ import annotations

from dujiang.errors import InvalidRequest
from dujiang.protocols.conversation import Document, Image, ResponseFormat, data_of_url
from dujiang.protocols.fields import Fields, no_counterpart

# Spelled alike in chat and responses, and of no weight to what the model is asked.
HINTS = ("metadata", "service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier")


def image_of_url(url: str, detail: str | None, where: str) -> Image:
    """Return the picture behind an address or in a data URL."""
    data = data_of_url(url, where)
    if data is None:
        return Image(url=url, detail=detail, where=where)
    return Image(media_type=data[0], data=data[1], detail=detail, where=where)


def document_of(file: Fields, target: str) -> Document:
    """Return the file in an object with `file_data` (a data URL, or bare base64 of a PDF), `file_url` or `file_id`."""
    where = file.path
    name = file.text("filename")
    url, file_id, data = file.text("file_url"), file.text("file_id"), file.text("file_data")
    file.refuse_rest(target)
    if data is not None:
        media_type, data = data_of_url(data, f"{where}.file_data") or ("application/pdf", data)
        return Document(data=data, media_type=media_type, name=name, where=where)
    if url is None and file_id is None:
        raise InvalidRequest(f"{where} must hold file_data or file_id.", param=where)
    return Document(url=url, file_id=file_id, name=name, where=where)


def encoded_image_url(part: Image) -> str:
    """Return a picture's address or its data URL."""
    return part.url or f"data:{part.media_type};base64,{part.data}"


def encoded_file(part: Document) -> dict[str, object]:
    """Return a document as `file_id`, or as `filename` and `file_data` (a data URL)."""
    if part.file_id is not None:
        return {"file_id": part.file_id}
    if part.data is None:
        raise no_counterpart(part.where, "chat", "send the file itself in base64")
    name = part.name or "document." + (part.media_type or "").rpartition("/")[2]
    return {"filename": name, "file_data": f"data:{part.media_type};base64,{part.data}"}


def schema_format(fields: Fields, target: str) -> ResponseFormat:
    """Return the format that an object with `name`, `schema`, `strict` and `description` describes."""
    wanted = ResponseFormat(
        "json_schema",
        schema=fields.members("schema") or {},
        name=fields.required_text("name"),
        description=fields.text("description"),
        strict=fields.boolean("strict"),
    )
    fields.refuse_rest(target)
    return wanted


def encoded_schema(wanted: ResponseFormat) -> dict[str, object]:
    """Return `name`, `schema`, `strict` and `description` of a format, which must have a name."""
    schema: dict[str, object] = {"name": wanted.name or "answer", "schema": wanted.schema}
    if wanted.description is not None:
        schema["description"] = wanted.description
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    return schema
