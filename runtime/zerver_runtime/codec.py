"""The bytes of messages and replies between processes: msgpack for plain data, an extension type for actor refs.

On the way msgpack knows only builtins: a dataclass, a Struct, a tuple or a set arrives as a dict or a list, and becomes
itself again by the annotation of the parameter (or of the return value) that it is for. What has no annotation stays
what msgpack makes of it.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from zerver_runtime.behaviour import Behaviour
from zerver_runtime.ids import PACKED, ActorId, pack, unpack
from zerver_runtime.message import NotPlainData, describe
from zerver_runtime.ref import ActorRef, class_path, id_of

__all__ = ["Codec", "Conversion", "conversion", "find_class"]

_REF = 1  # ten bytes of id, then the class's path
_BIG = 2  # an integer that has more than 64 bits: an actor id in an error

_CLASSES: dict[str, type[Any]] = {}


def _running(module: str) -> types.ModuleType | None:
    """The program that runs, if it is the module of this name. Imported by its name, it would be there a second time,
    with other classes."""
    main = sys.modules.get("__main__")
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if main is None or file is None or module in sys.modules:
        return None
    if spec is None and os.path.splitext(os.path.basename(file))[0] == module.rpartition(".")[2]:
        found = importlib.util.find_spec(module)
        return main if found is not None and found.origin == os.path.abspath(file) else None
    return main if spec is not None and spec.name == module else None


def find_class(path: str) -> type[Any]:
    """The class that `class_path` named, imported if need be. LookupError: there is none, and what was tried."""
    found = _CLASSES.get(path)
    if found is None:
        module, _, qualname = path.partition(":")
        try:
            value: Any = _running(module) or importlib.import_module(module)
            for name in qualname.split("."):
                value = getattr(value, name)
        except Exception as error:  # what a module raises when it is imported
            raise LookupError(f"there is no actor class {path!r}: {describe(error)}") from error
        if not isinstance(value, type):
            raise LookupError(f"{path!r} is not a class")
        found = _CLASSES[path] = value
    return found


def _class_of(path: str) -> type[Any]:
    """For a ref: one of a class that cannot be imported here (it is local to a function, or of another version) can
    still be kept, compared, watched and handed on. It has no behaviours."""
    try:
        return find_class(path)
    except LookupError:
        module, _, qualname = path.partition(":")
        return type(qualname.rpartition(".")[2], (), {"__module__": module, "__qualname__": qualname})


class Codec:
    """ref: makes a ref of its class and id, for the scheduler that decodes."""

    __slots__ = ("_decoder", "_ref", "_refs", "encode", "encode_into")

    def __init__(self, ref: Callable[[type[Any], ActorId], Any]) -> None:
        encoder = msgspec.msgpack.Encoder(enc_hook=_encode)
        self.encode = encoder.encode
        self.encode_into = encoder.encode_into
        """encode_into(value, buffer, -1) appends. Any exception: not plain data (what contains itself, or has fields
        that fail when they are read); then the buffer's end is undefined."""
        self._ref = ref
        self._decoder = msgspec.msgpack.Decoder(Any, ext_hook=self._decode)

    def decode(self, data: bytes) -> Any:
        """msgspec.MsgspecError: not msgpack. LookupError: an unknown extension type."""
        return self._decoder.decode(data)

    def decoder(self, kind: Any) -> msgspec.msgpack.Decoder[Any]:
        """For one shape of payload."""
        return msgspec.msgpack.Decoder(kind, ext_hook=self._decode)

    def arguments(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Of a spawn, as `encode((args, kwargs))` put them. msgspec.MsgspecError, LookupError."""
        pair = msgspec.convert(self.decode(data), tuple[list[Any], dict[str, Any] | None])
        return tuple(pair[0]), pair[1] or {}

    def plain_error(self, fields: tuple[Any, ...]) -> tuple[Any, ...]:
        """As `encode_error` gives it, with actor ids as msgpack can carry them."""
        return tuple(
            [msgspec.msgpack.Ext(_BIG, pack(one)) if type(one) is int and one >> 63 else one for one in fields]
        )

    def blame(
        self, kind: type[Any] | None, behaviour: str, args: Sequence[Any], kwargs: dict[str, Any] | None
    ) -> NotPlainData:
        """Which argument could not be encoded. kind: the class of the actor, if it is known."""
        found = getattr(kind, behaviour, None)
        names = (*getattr(found, "names", ())[: len(args)], *(kwargs or {}))
        args = (*args, *(kwargs or {}).values())
        for number, value in enumerate(args):
            try:
                self.encode(value)
            except Exception as error:
                name = names[number] if number < len(names) else f"argument {number + 1}"
                return NotPlainData(behaviour, name, f"a {type(value).__qualname__} ({error})")
        return NotPlainData(behaviour, "an argument", "a value that msgpack cannot carry")

    def _decode(self, code: int, data: memoryview) -> Any:
        if code == _REF:
            return self._ref(_class_of(str(data[PACKED:], "utf-8")), unpack(bytes(data[:PACKED])))
        if code == _BIG:
            return int.from_bytes(data, "big")
        raise LookupError(f"extension type {code} is not one of ours")


def _encode(value: Any) -> Any:
    if isinstance(value, ActorRef):
        return msgspec.msgpack.Ext(_REF, pack(id_of(value)) + class_path(type(value)._class).encode())
    raise NotImplementedError(f"a {type(value).__module__}.{type(value).__qualname__} is not plain data")


# --- Back to what the annotations say


class Conversion(msgspec.Struct, frozen=True):
    """What has to be done to the arguments of one behaviour, and to what it returns: types by position and by name;
    None where nothing has to be done."""

    positional: tuple[Any, ...] | None
    keywords: dict[str, Any] | None
    result: Any

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> tuple[Any, Any]:
        """msgspec.ValidationError: an argument is not of its type."""
        if self.positional is not None:
            kinds = self.positional
            last = len(kinds) - 1
            args = tuple(
                [
                    value if (kind := kinds[min(at, last)]) is None else msgspec.convert(value, kind)
                    for at, value in enumerate(args)
                ]
            )
        if kwargs and self.keywords:
            types_ = self.keywords
            kwargs = {
                name: value if (kind := types_.get(name)) is None else msgspec.convert(value, kind)
                for name, value in kwargs.items()
            }
        return args, kwargs


_NATURAL = frozenset({int, float, str, bytes, bool, type(None), Any, list, dict, object})
_CONVERSIONS: dict[Behaviour[Any, Any, Any], Conversion | None] = {}


def conversion(behaviour: Behaviour[Any, Any, Any]) -> Conversion | None:
    """None: msgpack gives all of it as it should be."""
    try:
        return _CONVERSIONS[behaviour]
    except KeyError:
        found = _CONVERSIONS[behaviour] = _conversion(behaviour)
        return found


def _conversion(behaviour: Behaviour[Any, Any, Any]) -> Conversion | None:
    fn = behaviour.fn
    try:
        hints = typing.get_type_hints(fn)
    except Exception:  # a name that only a type checker sees
        hints = {}
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for one in list(inspect.signature(fn).parameters.values())[1:]:
        kind = _needed(hints.get(one.name))
        if one.kind is one.KEYWORD_ONLY:
            keywords[one.name] = kind
        elif one.kind is not one.VAR_KEYWORD:
            positional.append(kind)
    by_place = tuple(positional) if any(kind is not None for kind in positional) else None
    by_name = keywords if any(kind is not None for kind in keywords.values()) else None
    result = _needed(hints.get("return"))
    return Conversion(by_place, by_name, result) if by_place or by_name or result is not None else None


def _needed(hint: Any) -> Any:
    """The type to convert to; None: what msgpack gives is right already, or nothing better is known."""
    if hint is None:
        return None
    plain = _plain(hint)
    if _natural(plain):
        return None
    try:
        msgspec.msgpack.Decoder(plain)
    except TypeError:
        return None  # a union that msgspec cannot tell apart
    return plain


def _plain(hint: Any) -> Any:
    """The hint with everything that msgspec does not know (actor classes, which stand for refs) taken for Any."""
    args = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is None or not args or origin is typing.Literal:
        if isinstance(hint, type):
            info = msgspec.inspect.type_info(hint)
            return Any if isinstance(info, msgspec.inspect.CustomType) else hint
        return hint if hint is Any or origin is typing.Literal else Any
    inner = tuple([one if one is Ellipsis else _plain(one) for one in args])
    if origin in (typing.Union, types.UnionType):
        return Any if Any in inner else typing.Union[inner]  # noqa: UP007  # of a tuple there is no "|"
    try:
        return origin[inner]
    except TypeError:
        return Any


def _natural(hint: Any) -> bool:
    if hint in _NATURAL:
        return True
    origin = typing.get_origin(hint)
    if origin in (list, dict, typing.Union, types.UnionType):
        return all(_natural(one) for one in typing.get_args(hint))
    return False
