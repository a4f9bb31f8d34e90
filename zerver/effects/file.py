"""Files below the folder that is configured: ``file.read("reports/7.json", into=Report)``, ``file.write("notes/7.txt",
text)``.

A path is relative, with ``/`` between its parts. It may come from a client: what leads out of the folder, or over a
symbolic link, is FORBIDDEN.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, Unpack, overload

import msgspec

from ..effect import Effect, Priority, Retry
from ..error import DefinitionError
from ..response import encode_json
from ..slot import Key
from .options import Into, Options

__all__ = ["FileRead", "FileWrite", "read", "write"]

T = TypeVar("T")


class FileRead(msgspec.Struct, frozen=True):
    """Read a whole file."""

    path: str


class FileWrite(msgspec.Struct, frozen=True):
    """Put a file where there is none, or in the place of the one that is there."""

    path: str
    content: bytes


@overload
def read(
    path: str,
    *,
    into: None = None,
    as_: None = None,
    required: Literal[True] = True,
    **options: Unpack[Options],
) -> Effect[bytes]: ...
@overload
def read(
    path: str, *, into: None = None, as_: None = None, required: bool, **options: Unpack[Options]
) -> Effect[bytes | None]: ...
@overload
def read(
    path: str,
    *,
    into: Key[object, T],
    as_: type[T] | None = None,
    required: Literal[True] = True,
    **options: Unpack[Options],
) -> Effect[T]: ...
@overload
def read(
    path: str, *, into: Into[T], as_: type[T] | None = None, required: bool, **options: Unpack[Options]
) -> Effect[T | None]: ...
@overload
def read(
    path: str,
    *,
    into: None = None,
    as_: type[T],
    required: Literal[True] = True,
    **options: Unpack[Options],
) -> Effect[T]: ...
@overload
def read(
    path: str, *, into: None = None, as_: type[T], required: bool, **options: Unpack[Options]
) -> Effect[T | None]: ...
def read(path: str, **options: Any) -> Effect[Any]:
    """The content of a file: its bytes; with ``str`` as the type, the text that they are in UTF-8; with any other type,
    decoded from JSON. Without such a file it fails as NOT_FOUND.

    :raises DefinitionError: a path that is not text.
    """
    return _effect("read", FileRead(_path("read", path)), **options)


def write(path: str, content: Any, *, required: bool = True, **options: Unpack[Options]) -> Effect[None]:
    """Write a file: bytes as they are, text in UTF-8, anything else as JSON. It is there as a whole or not at all; who
    reads it meanwhile has the old one. Folders that are missing are made.

    :raises DefinitionError: a path that is not text; a content that is not bytes, has no form in UTF-8, or none in
        JSON.
    """
    name = _path("write", path)
    if isinstance(content, (bytes, bytearray, memoryview)):
        data = bytes(content)
    else:
        try:
            data = content.encode() if isinstance(content, str) else encode_json(content)
        except (TypeError, UnicodeEncodeError) as problem:
            raise DefinitionError(f"file.write: the content of {path!r} cannot be encoded: {problem}") from None
    return _effect("write", FileWrite(name, data), required=required, **options)


def _path(op: str, path: str) -> str:
    if not isinstance(path, str):
        raise DefinitionError(f"file.{op}: a path is text, not {type(path).__name__}")
    return path


def _effect(
    op: str,
    args: FileRead | FileWrite,
    *,
    into: Any = None,
    as_: Any = None,
    required: bool = True,
    timeout: float | None = None,
    retry: Retry | None = None,
    priority: Priority = "interactive",
    idem: str | None = None,
) -> Effect[Any]:
    return Effect(
        family="file",
        op=op,
        target="file",
        args=args,
        into=into,
        as_=as_,
        timeout=timeout,
        retry=retry,
        required=required,
        priority=priority,
        idem=idem,
        idempotent=True,
    )
