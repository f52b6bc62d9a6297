"""Which form of an answer a client asked for (RFC 9110, section 12.5.1)."""

from starlette.datastructures import Headers

EVENT_STREAM = "text/event-stream"
JSON = "application/json"


def asks_for(headers: Headers, media_type: str) -> bool:
    """Tell whether ``Accept`` names a media type itself; a wildcard does not."""
    items = ",".join(headers.getlist("accept")).lower().split(",")
    return any(_names(item, media_type) for item in items)


def _names(item: str, media_type: str) -> bool:
    name, *parameters = (part.strip() for part in item.split(";"))
    return name == media_type and not any(_refuses(parameter) for parameter in parameters)


def _refuses(parameter: str) -> bool:
    """Tell a ``q=0``, which means "not this one"."""
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().strip("0.") == ""
