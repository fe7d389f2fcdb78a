"""Refusals at the door, in OpenAI's error shape: every 4xx names the field and the next move."""

import re
from typing import Any, TypeVar

import msgspec

from meted.live.doors import Doors, HouseError, Key

T = TypeVar("T")

INVALID = "invalid_request_error"
HOW_TO_MAKE_A_KEY = "create one with `meted keys create --tenant NAME`"

_PATH = re.compile(r" - at `\$(?P<path>.*)`$")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]+)`")
_UNKNOWN = re.compile(r"contains unknown field `(?P<name>[^`]+)`")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def refusal(message: str, *, param: str | None, code: str | None = None) -> HouseError:
    """A 400 for one field of the body."""
    return HouseError(message, status=400, type=INVALID, param=param, code=code)


def error_body(error: HouseError) -> bytes:
    """OpenAI's error object, with what the house adds for programs."""
    fields = {
        **error.details,
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }
    return msgspec.json.encode({"error": fields})


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as its type. Raises HouseError (400): the field, its value, what is expected."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_field(body, str(error)) from error
    except msgspec.DecodeError as error:
        place = "" if "byte" in str(error) else f" (at byte {len(body)})"
        raise refusal(f"the body is not JSON: {error}{place}", param=None) from error
    except UnicodeDecodeError as error:
        raise refusal(f"the body is not UTF-8: {error.reason}", param=None) from error
    except RecursionError as error:
        raise refusal("the body is nested too deeply", param=None) from error


def _wrong_field(body: bytes, text: str) -> HouseError:
    found = _PATH.search(text)
    path = found["path"].lstrip(".") if found else ""
    text = _PATH.sub("", text)
    if missing := _MISSING.search(text):
        name = f"{path}.{missing['name']}".lstrip(".")
        return refusal(f"{name} is missing", param=name)
    if unknown := _UNKNOWN.search(text):
        name = _cut(f"{path}.{unknown['name']}".lstrip("."))
        return refusal(f"{name} is not a field of this request; remove it", param=name)
    # Of an unknown choice the decoder repeats all that was sent.
    expected = _cut(text[:1].lower() + text[1:])
    if not path:
        return refusal(f"the body: {expected}", param=None)
    return refusal(f"{path} is {_value_at(body, path)}: {expected}", param=path)


def _value_at(body: bytes, path: str) -> str:
    """The offending value as JSON, shortened, for the sentence."""
    try:
        value: Any = msgspec.json.decode(body)
        for name, index in _STEP.findall(path):
            value = value[int(index)] if index else value[name]
        shown = msgspec.json.encode(value).decode()
    except (
        *(msgspec.DecodeError, LookupError, TypeError, ValueError),
        *(OverflowError, RecursionError),
    ):
        # Numbers of hundreds of digits can be read but not written, nests read but not walked.
        return "not valid"
    return _cut(shown, 80)


def _cut(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def key_behind(doors: Doors, authorization: bytes | None) -> Key:
    """The key of an Authorization header. Raises HouseError (401)."""
    scheme, _, secret = (authorization or b"").decode("latin-1").partition(" ")
    secret = secret.strip()
    if not secret or scheme.lower() != "bearer":
        message = f"no API key: send the header 'Authorization: Bearer KEY'; {HOW_TO_MAKE_A_KEY}"
    elif (key := doors.authenticate(secret)) is not None:
        return key
    else:
        shown = f" '{secret[:7]}...'" if len(secret) > 12 else ""
        message = f"the API key{shown} is unknown or revoked; {HOW_TO_MAKE_A_KEY}"
    raise HouseError(
        message, status=401, type="authentication_error", param=None, code="invalid_api_key"
    )


def admin_behind(doors: Doors, authorization: bytes | None) -> Key:
    """The admin key of an Authorization header. Raises HouseError (401, 403)."""
    key = key_behind(doors, authorization)
    if not key.admin:
        raise HouseError(
            f"the API key '{key.prefix}...' of tenant '{key.tenant}' is not an admin key; use the "
            "key in admin.key of METED_HOME or `meted keys create --admin --tenant NAME`",
            status=403,
            type="permission_error",
            param=None,
            code="admin_key_required",
        )
    return key
