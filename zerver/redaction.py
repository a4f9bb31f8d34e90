"""Secrets are taken out of what is written down, traces and logs: when it is, since what is not there cannot leak.

By name: of headers, query parameters, and the fields of bodies in JSON or of forms. What is in free text, in a path or
in an argument of SQL is not found; arguments of effects are therefore never recorded, only their digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import msgspec

__all__ = ["REDACTED", "SECRETS", "Redaction"]

REDACTED = "[redacted]"
"""What stands in place of a secret."""

SECRETS = (
    "access_token", "api_key", "apikey", "authorization", "client_secret", "cookie", "credit_card", "cvc", "cvv",
    "id_token", "passwd", "password", "private_key", "proxy-authorization", "refresh_token", "secret", "set-cookie",
    "token", "x-amz-security-token", "x-api-key", "x-auth-token", "x-csrf-token", "x-xsrf-token",
)  # fmt: skip
"""What is always redacted, in any case, with ``-`` and ``_`` alike, or without: ``accessToken``."""

_PLACES = 100  # of a body that are told
_LONGEST = 200  # characters of one
_FORM = b"application/x-www-form-urlencoded"
_json = msgspec.json.Decoder()
# The name of a parameter in a URL, which may be in a header (Referer, Location), in its query or after it.
_PARAMETER = re.compile(r"[?&#]([^?&#=\s]+)=")
_REDACTED = re.compile(r"[?&]([^?&#=\s]+)=\[(?:redacted\]|[redact]{0,8}…)")  # it may have been cut off
_PARTS = re.compile(r"[^\[\].]+")


class Redaction:
    """``names``: beside :data:`SECRETS`."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        plain = {_plain(name) for name in (*SECRETS, *names)}
        self._names = frozenset(plain | {name.replace("_", "") for name in plain})
        # Most bodies have none of these in them, and need not be read.
        some = "|".join(re.escape(name).replace("_", "[-_]?") for name in sorted(plain))
        self._somewhere = re.compile(rf"\\|{some}".encode(), re.I)

    def secret(self, name: str) -> bool:
        """Whether what has this name is a secret."""
        return _plain(name) in self._names

    def headers(self, items: Iterable[tuple[Any, Any]], found: list[str] | None = None) -> tuple[tuple[Any, Any], ...]:
        """Headers, as bytes or text, without the values of secret ones, and of those that hold a URL with a secret
        parameter; ``found`` gets their places."""
        kept: list[tuple[Any, Any]] = []
        for name, value in items:
            text = name.decode("latin-1") if isinstance(name, bytes) else name
            if self.secret(text) or self._in_url(value):
                if found is not None:
                    found.append(f"header:{text}")
                kept.append((name, REDACTED.encode() if isinstance(value, bytes) else REDACTED))
            else:
                kept.append((name, value))
        return tuple(kept)

    def _in_url(self, value: bytes | str) -> bool:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        return "=" in text and any(self._secret_field(unquote_plus(name)) for name in _PARAMETER.findall(text))

    def _secret_field(self, name: str) -> bool:
        """Of a query or a form, where names may have parts: ``user[password]``, ``user.password``."""
        return self.secret(name) or any(map(self.secret, _PARTS.findall(name)))

    def query(self, query: bytes, found: list[str], place: str = "query") -> bytes:
        """A query, or the body of a form."""
        if not self._somewhere.search(query) and b"%" not in query:
            return query
        fields = query.split(b"&")
        for position, field in enumerate(fields):
            name, equals, value = field.partition(b"=")
            text = unquote_plus(name.decode("latin-1"))
            if equals and self._secret_field(text):
                found.append(f"{place}:{text}")
                fields[position] = name + b"=" + REDACTED.encode()
            elif value[:1] in (b"{", b"[") or value[:3].upper() in (b"%7B", b"%5B"):
                plain = unquote_plus(value.decode("latin-1"))
                try:
                    kept = self.value(plain, [])
                except RecursionError:
                    kept = REDACTED
                if kept is not plain:
                    found.append(f"{place}:{text}")
                    fields[position] = name + b"=" + quote_plus(kept, "[]").encode()
        return b"&".join(fields)

    @classmethod
    def of_urls(cls, texts: Iterable[str]) -> Redaction:
        """One that takes out of URLs what was taken out of these."""
        return cls(unquote_plus(name) for text in texts for name in _REDACTED.findall(text))

    def url(self, url: str) -> str:
        """A URL without its secret parameters."""
        head, mark, query = url.partition("?")
        if not mark:
            return url
        return f"{head}?{self.query(query.encode('utf-8', 'surrogateescape'), []).decode('utf-8', 'replace')}"

    def body(self, body: bytes, content_type: bytes, found: list[str]) -> bytes | None:
        """A body; ``None`` where it may hold secrets, and they cannot be told apart."""
        if not self._somewhere.search(body) and b"%" not in body:
            return body
        kind = content_type.partition(b";")[0].strip().lower()
        if kind == _FORM and body.lstrip()[:1] not in (b"{", b"["):  # it is what curl says that it sends
            return self.query(body, found, "body")
        try:
            value, places = _json.decode(body), list[str]()
            redacted = self.value(value, places)
            found += dict.fromkeys(places[:_PLACES])
            return body if redacted is value else msgspec.json.encode(redacted)
        except (msgspec.DecodeError, RecursionError):
            if not self._somewhere.search(body):
                return body
            found.append("body")
            return None

    def value(self, value: Any, found: list[str], path: str = "") -> Any:
        """Plain data without the values of secret names, also in texts of it that are JSON; the same object where
        nothing in it is a secret.

        :raises RecursionError: it is nested too deeply to tell.
        """
        if isinstance(value, dict):
            changed = {}
            for name, inner in value.items():
                place = _place(path, f".{name}" if path else str(name))
                if self.secret(str(name)) and inner is not None:
                    found.append(f"body:{place}")
                    changed[name] = REDACTED
                else:
                    changed[name] = self.value(inner, found, place)
            return changed if any(changed[name] is not value[name] for name in value) else value
        if isinstance(value, list):
            items = [self.value(inner, found, _place(path, f"[{position}]")) for position, inner in enumerate(value)]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        if isinstance(value, (str, bytes)) and value.lstrip()[:1] in ("{", "[", b"{", b"["):
            return self._json_text(value, found, path)
        return value

    def _json_text(self, text: str | bytes, found: list[str], path: str) -> str | bytes:
        data = text.encode("utf-8", "replace") if isinstance(text, str) else text
        if not self._somewhere.search(data):
            return text
        try:
            plain = _json.decode(data)
        except msgspec.DecodeError:
            return text
        redacted = self.value(plain, found, path)
        if redacted is plain:
            return text
        kept = msgspec.json.encode(redacted)
        return kept.decode() if isinstance(text, str) else kept


def _place(path: str, inner: str) -> str:
    """For people: names are as long, and as deep, as who sent them likes."""
    return f"{path}{inner}" if len(path) + len(inner) <= _LONGEST else f"{path}…"[: _LONGEST + 1]


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
