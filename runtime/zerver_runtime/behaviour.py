"""`@behaviour`: a method that is run by messages only.

For each behaviour a function is generated, once, with the method's own parameters: that is what `ref.add(1)` calls. So
wrong arguments fail at the call, keywords and defaults work, and none of it costs anything: the interpreter binds them.
(`inspect.Signature.bind` takes three times as long as sending a message and running it.) `dataclasses` makes its
`__init__` this way too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from zerver_runtime.reply import Reply

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Behaviour", "behaviour"]

A_co = TypeVar("A_co", covariant=True)
A = TypeVar("A")
P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Behaviour(Generic[A_co, P, R_co]):
    """On the class: this object, to name the behaviour by (`actor.ask("counter", Counter.add, 1)`). On an instance and
    on a ref: a function of P that sends, and returns a `Reply[R]`; it never runs the method in place.

    `Counter.add.fn(self, 1)` does run it in place, in a subclass that overrides it, say (`super().add(1)` sends).
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        if not inspect.isfunction(fn):
            raise TypeError(f"@behaviour goes on a plain or async method, not on {fn!r}")
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(f"@behaviour {fn.__qualname__} is a generator; a message has one answer: return a list")
        self.fn = fn
        self.is_async = inspect.iscoroutinefunction(fn)
        self.name = fn.__name__
        self.owner = fn.__qualname__.rpartition(".")[0]
        self.__doc__ = fn.__doc__
        # Generated when they are first wanted: a class that is never spawned costs nothing.
        self._send: Callable[..., Reply[Any]] | None = None
        self._bind: Callable[..., tuple[tuple[Any, ...], dict[str, Any] | None]] | None = None
        self._names: tuple[str, ...] | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.owner = owner.__qualname__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Callable[P, Reply[R_co]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else getattr(instance.ref, self.name)

    @property
    def send(self) -> Callable[..., Reply[Any]]:
        """The method that a ref's class has for it."""
        if self._send is None:
            self._send = self._generate("__ref", "__ref._cell.send(__behaviour, {args}, {kwargs})")
        return self._send

    def bind(self, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
        """The arguments as a message holds them. TypeError: the behaviour does not take them."""
        if self._bind is None:
            self._bind = self._generate(None, "({args}, {kwargs})")
        return self._bind(*args, **kwargs)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters that can be given by position, *args last."""
        if self._names is None:
            kinds = (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL)
            self._names = tuple([one.name for one in self._parameters() if one.kind in kinds])
        return self._names

    def _parameters(self) -> list[inspect.Parameter]:
        parameters = list(inspect.signature(self.fn).parameters.values())
        if not parameters or parameters[0].kind not in _POSITIONAL:
            raise TypeError(f"@behaviour {self.owner}.{self.name} needs self as its first parameter")
        return parameters[1:]

    def _generate(self, first: str | None, body: str) -> Callable[..., Any]:
        header = [first] if first else []
        args, kwargs = [], []
        open_positional = bool(first)
        namespace: dict[str, Any] = {"__behaviour": self}
        star = False
        for one in self._parameters():
            if one.kind is not inspect.Parameter.POSITIONAL_ONLY and open_positional:
                header.append("/")
            open_positional = one.kind is inspect.Parameter.POSITIONAL_ONLY
            text = one.name
            if one.default is not inspect.Parameter.empty:
                namespace[f"__default_{one.name}"] = one.default
                text += f"=__default_{one.name}"
            if one.kind in _POSITIONAL:
                args.append(one.name)
            elif one.kind is inspect.Parameter.VAR_POSITIONAL:
                text, star = f"*{text}", True
                args.append(text)
            elif one.kind is inspect.Parameter.KEYWORD_ONLY:
                if not star:
                    header.append("*")
                    star = True
                kwargs.append(f"{one.name!r}: {one.name}")
            else:
                text = f"**{text}"
                kwargs.append(text)
            header.append(text)
        if open_positional:
            header.append("/")
        positional = f"({', '.join(args)}{',' if len(args) == 1 else ''})"
        keywords = f"{{{', '.join(kwargs)}}} or None" if kwargs else "None"
        source = f"def call({', '.join(header)}):\n    return {body.format(args=positional, kwargs=keywords)}\n"
        exec(source, namespace)
        call = namespace["call"]
        # What the interpreter puts into a TypeError about the arguments.
        call.__name__, call.__qualname__ = self.name, f"{self.owner}.{self.name}"
        call.__doc__, call.__module__ = self.__doc__, self.fn.__module__
        return cast("Callable[..., Any]", call)

    def __repr__(self) -> str:
        return f"<behaviour {self.owner}.{self.name}>"


@overload
def behaviour(fn: Callable[Concatenate[A, P], Coroutine[Any, Any, R]], /) -> Behaviour[A, P, R]: ...
@overload
def behaviour(fn: Callable[Concatenate[A, P], R], /) -> Behaviour[A, P, R]: ...
def behaviour(fn: Callable[..., Any], /) -> Behaviour[Any, Any, Any]:
    """Make a method of an `Actor` a behaviour. It may be async; the actor then takes no other message until it returns.

    TypeError: not a function, or a generator.
    """
    return Behaviour(fn)
