"""Decisions: what a step returns. A closed set of frozen values: ``Continue``, ``Need``, ``Done``, ``Fail``."""

from __future__ import annotations

import builtins
import os
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from zerver_runtime.reactor.join import Join, Mode, check

from .context import CtxView
from .effect import Effect
from .error import DefinitionError, ErrorKind
from .response import JSON, Headers, Response, StreamBody, encode_json, file_body, header_pairs, location, response

__all__ = ["Compensation", "Continue", "Decision", "Done", "Fail", "Need", "Step"]


class Continue(msgspec.Struct, frozen=True):
    """Go on with the next step of the pipeline. From a continuation: with the step after the one that asked."""


class Fail(msgspec.Struct, frozen=True):
    """End the request with an error. ``what`` is a sentence for the client, ``key`` what it is about,
    ``detail`` plain data for machines, ``retry_after`` seconds for the ``Retry-After`` header.

    :raises DefinitionError: a kind that is no :class:`ErrorKind`; ``what`` or ``key`` that is no text.
    """

    kind: ErrorKind
    what: str = ""
    key: str | None = None
    detail: Mapping[str, Any] | None = None
    retry_after: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, ErrorKind):
            raise DefinitionError(f"Fail({self.kind!r}): the kind is an ErrorKind, such as ErrorKind.NOT_FOUND")
        if not isinstance(self.what, str) or not (self.key is None or isinstance(self.key, str)):
            raise DefinitionError(f"Fail({self.kind.name}): what and key are text; convert them with str()")


class Done(msgspec.Struct, frozen=True):
    """End the request with a response. The constructors below make one; each takes ``status`` and ``headers``,
    and raises ``DefinitionError`` for a status or header that cannot be sent."""

    response: Response

    @classmethod
    def json(cls, value: Any, *, status: int = 200, headers: Headers = ()) -> Done:
        """JSON of builtins, dataclasses, msgspec Structs, pydantic models, datetimes, UUIDs and enums.

        :raises TypeError: a value that has no JSON form.
        """
        body = encode_json(value)
        if status == 200 and not headers:  # as nearly always
            return cls(Response(200, JSON, body))
        return cls(response(body, status=status, content_type="application/json", headers=headers))

    @classmethod
    def text(cls, text: str, *, status: int = 200, headers: Headers = ()) -> Done:
        """Plain text, in UTF-8."""
        return cls(response(text.encode(), status=status, content_type="text/plain; charset=utf-8", headers=headers))

    @classmethod
    def html(cls, markup: str, *, status: int = 200, headers: Headers = ()) -> Done:
        """HTML, in UTF-8. The app escapes what clients sent."""
        return cls(response(markup.encode(), status=status, content_type="text/html; charset=utf-8", headers=headers))

    @classmethod
    def redirect(cls, url: str, *, status: int = 307, headers: Headers = ()) -> Done:
        """A redirect to ``url`` (default 307: same method and body again).

        :raises DefinitionError: a status that is not 301, 302, 303, 307 or 308.
        """
        if status not in (301, 302, 303, 307, 308):
            raise DefinitionError(f"redirect with status {status!r}; allowed: 301, 302, 303, 307, 308")
        return cls(response(status=status, headers=(("location", location(url)), *header_pairs(headers))))

    @classmethod
    def empty(cls, *, status: int = 204, headers: Headers = ()) -> Done:
        """No body (default 204)."""
        return cls(response(status=status, headers=headers))

    @classmethod
    def bytes(
        cls,
        body: bytes,
        *,
        content_type: str = "application/octet-stream",
        status: int = 200,
        headers: Headers = (),
    ) -> Done:
        """Bytes as they are."""
        return cls(response(body, status=status, content_type=content_type, headers=headers))

    @classmethod
    def stream(
        cls,
        chunks: Iterable[builtins.bytes] | AsyncIterable[builtins.bytes],
        *,
        content_type: str = "application/octet-stream",
        status: int = 200,
        headers: Headers = (),
    ) -> Done:
        """A body produced while it is sent: run after the pipeline, outside of purity and replay. A plain
        iterable runs on a worker thread, an async one on the loop; it is closed when the client goes."""
        return cls(response(StreamBody(chunks), status=status, content_type=content_type, headers=headers))

    @classmethod
    def file(
        cls,
        path: str | os.PathLike[str],
        *,
        filename: str | None = None,
        content_type: str | None = None,
        status: int = 200,
        headers: Headers = (),
    ) -> Done:
        """A file, read while it is sent; 404 when it is not there. ``content_type`` is guessed from the name if
        left out; ``filename`` makes it a download. The path is the app's: never build it from unchecked
        input."""
        return cls(response(file_body(path, filename), status=status, content_type=content_type, headers=headers))


class Compensation(msgspec.Struct, frozen=True):
    """What would undo a Need's effects: an effect to run ``on_failure`` or ``on_cancel`` of the request.
    Carried through the pipeline and the trace; not executed yet (see ``docs/decisions/0008``)."""

    label: str
    when: Literal["on_failure", "on_cancel"]
    effect: Effect[Any]


class Need(msgspec.Struct, frozen=True):
    """Ask the engine for effects, then run ``then`` (or, without one, the next step).

    ``mode``: ``parallel`` (default), or ``sequential``: each starts when the one before has settled. ``join``:
    when to go on; see :mod:`zerver_runtime.reactor.join`. ``detach``: under ``all_required``, optional effects
    finish in the background instead of being cancelled. ``compensations``: what would undo the effects; kept with the
    request and in its trace, and not run in this version (docs/decisions/0008).

    :raises DefinitionError: something in ``effects`` that is no effect; two effects into one slot, except under
        ``any`` and ``first_success``; a combination of join, required and detach under which nothing would run.
    """

    effects: Sequence[Effect[Any]]
    mode: Mode = "parallel"
    join: Join = "all"
    then: Step | None = None
    detach: bool = False
    compensations: Sequence[Compensation] = ()

    def __post_init__(self) -> None:
        if isinstance(self.effects, Effect):
            raise DefinitionError("Need: its first argument is a list of effects; write Need([effect], ...)")
        effects = tuple(self.effects)
        msgspec.structs.force_setattr(self, "effects", effects)
        for position, effect in enumerate(effects):
            if not isinstance(effect, Effect):
                raise DefinitionError(f"Need: effect {position} is {effect!r}; use the constructors of zerver.effects")
        if self.then is not None and not callable(self.then):
            raise DefinitionError(f"Need: then={self.then!r} is not a step function")
        problem = check([effect.required for effect in effects], self.join, self.mode, self.detach)
        if problem is not None:
            raise DefinitionError(f"Need: {problem}")
        if len(effects) > 1 and self.join not in ("any", "first_success"):
            taken: dict[object, int] = {}
            for position, effect in enumerate(effects):
                if effect.into is not None and taken.setdefault(effect.into, position) != position:
                    raise DefinitionError(
                        f"Need: effects {taken[effect.into]} and {position} both write slot {effect.into.__name__}; "
                        f"under "
                        f"join={self.join!r} each needs a slot of its own"
                    )
        if self.compensations:
            msgspec.structs.force_setattr(self, "compensations", tuple(self.compensations))


Decision: TypeAlias = Continue | Need | Done | Fail

Step: TypeAlias = Callable[[CtxView[Any, Any]], Decision | Coroutine[Any, Any, Decision]]
