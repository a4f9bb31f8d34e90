"""Routing: what a template may say, which of several templates answers, and that no path can hurt."""

from __future__ import annotations

import re
import uuid
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.convertors import (
    CONVERTOR_TYPES,
    Convertor,
    PathConvertor,
    StringConvertor,
    register_url_convertor,
)

from zerver.match import Match, MethodMismatch
from zerver.path_template import Mixed, TemplateError, parse_template
from zerver.routing import RouteError, Router

UUID = "6f1c1d0a-8a3b-4c59-9d0e-2b6f4a1d7c33"


def router(*templates: str, method: str = "GET") -> Router[str]:
    """A router whose endpoints are the templates themselves."""
    table: Router[str] = Router()
    for template in templates:
        table.add(method, template, template)
    return table


def matched(table: Router[str], path: str, method: str = "GET") -> tuple[str, dict[str, Any]] | None:
    match = table.match(method, path)
    if not isinstance(match, Match):
        return None
    assert match.endpoint == match.template
    return match.template, match.params


@pytest.fixture
def registered():
    """Registers convertors as an app does, and takes them away again."""
    before = dict(CONVERTOR_TYPES)
    yield register_url_convertor
    CONVERTOR_TYPES.clear()
    CONVERTOR_TYPES.update(before)


# Templates


@pytest.mark.parametrize(
    ("template", "position", "says"),
    [
        ("", 0, "starts with '/': write '/'"),
        ("todos/{id}", 0, "starts with '/': write '/todos/{id}'"),
        ("{id}", 0, "starts with '/'"),
        ("/a/{id:integer}", 7, "unknown convertor 'integer': use one of float, int, path, str, uuid"),
        ("/a/{id: int}", 7, "unknown convertor ' int'"),
        ("/a/{id:}", 7, "unknown convertor ''"),
        ("/a/{id}/b/{id:int}", 11, "parameter 'id' is there already"),
        ("/a/{x}-{x}", 8, "parameter 'x' is there already"),
        ("/a/{}", 4, "a parameter without a name"),
        ("/a/{:int}", 4, "a parameter without a name"),
        ("/a/{1st}", 4, "'1st' is no parameter name"),
        ("/a/{to-do}", 4, "'to-do' is no parameter name"),
        ("/a/{ id }", 4, "' id ' is no parameter name"),
        ("/a/{é}", 4, "'é' is no parameter name"),
        ("/a/{x/y}", 4, "'x/y' is no parameter name"),
        ("/a/{id\n}", 4, "'id\\n' is no parameter name"),
        ("/a/{id", 3, "'{' without its '}'"),
        ("/a/id}", 5, "'}' without its '{'"),
        ("/a/{id}}", 7, "'}' without its '{'"),
        ("/a/{{id}", 3, "'{' without its '}'"),
        ("/{p:path}/x/{q:path}", 15, "a second 'path' parameter"),
        ("/{p:path}-{q:path}", 13, "a second 'path' parameter"),
    ],
)
def test_a_template_that_cannot_be_read_is_an_error_that_says_where_and_what_to_do(template, position, says):
    with pytest.raises(TemplateError) as caught:
        parse_template(template)
    assert str(caught.value).startswith(f"template {template!r}, position {position}: ")
    assert says in str(caught.value)

    with pytest.raises(RouteError) as routed:
        Router[int]().add("POST", template, 1, "shop.create")
    assert str(routed.value) == f"POST route (shop.create): {caught.value}"


def test_a_route_error_is_a_value_error_and_leaves_the_table_as_it_was():
    table = router("/a/{x}")
    for bad in ("/a/{y}", "/{y", "no-slash"):
        with pytest.raises(ValueError, match=r"route|shape"):
            table.add("GET", bad, bad)
    assert table.routes() == [("GET", "/a/{x}", "/a/{x}")]
    assert table.allowed("/b") == ()


def test_a_convertor_with_a_broken_regex_is_an_error_that_names_it(registered):
    class Broken(StringConvertor):
        regex = "[a-"

    class Named(Convertor[str]):
        regex = "(?P<year>[0-9]+)"

    registered("broken", Broken())
    registered("named", Named())
    with pytest.raises(RouteError, match=r"position 4: the regex of convertor 'broken' is broken"):
        Router[int]().add("GET", "/{x:broken}", 1)
    with pytest.raises(RouteError, match="do not compile side by side"):
        Router[int]().add("GET", "/{a:named}-{b:named}", 1)


# One template


@pytest.mark.parametrize(
    ("template", "path", "params"),
    [
        ("/", "/", {}),
        ("/", "", None),
        ("/a", "/a", {}),
        ("/a", "a", None),
        ("/a", "/A", None),
        ("/a", "/a/", None),
        ("/a/", "/a", None),
        ("/a/", "/a/", {}),
        ("/a", "//a", None),
        ("/a//b", "/a//b", {}),
        ("/a", "/a\n", None),
        ("/a.b", "/axb", None),
        ("/{x}", "/v", {"x": "v"}),
        ("/{x}", "/", None),
        ("/{x}", "v", None),
        ("/{x}", "xv/v", None),
        ("/a/{x}", "z/a/1", None),
        ("/a/{p:path}", "z/a/1/2", None),
        ("/{x}", "/v/", None),
        ("/{x}", "//v", None),
        ("/{x}/", "/v/", {"x": "v"}),
        ("/{x}/", "/v", None),
        ("/{x:str}", "/é\n\x00\ud800", {"x": "é\n\x00\ud800"}),
        ("/{x}/{y}", "/1/2", {"x": "1", "y": "2"}),
        ("/{x}/{y}", "/1/", None),
        ("/{x:int}", "/042", {"x": 42}),
        ("/{x:int}", "/-1", None),
        ("/{x:int}", "/+1", None),
        ("/{x:int}", "/1_0", None),
        ("/{x:int}", "/ 1", None),
        ("/{x:int}", "/1\n", None),
        ("/{x:int}", "/٤٢", None),
        ("/{x:int}", "/²", None),
        ("/{x:int}", "/" + "9" * 4300, {"x": 10**4300 - 1}),
        ("/{x:int}", "/" + "9" * 4301, None),
        ("/{x:float}", "/1", {"x": 1.0}),
        ("/{x:float}", "/1.5", {"x": 1.5}),
        ("/{x:float}", "/1.", None),
        ("/{x:float}", "/1e3", None),
        ("/{x:float}", "/nan", None),
        ("/{x:uuid}", f"/{UUID}", {"x": uuid.UUID(UUID)}),
        ("/{x:uuid}", f"/{UUID.replace('-', '')}", {"x": uuid.UUID(UUID)}),
        ("/{x:uuid}", f"/{UUID[:-1]}", None),
        ("/f/{p:path}", "/f/a/b//c", {"p": "a/b//c"}),
        ("/f/{p:path}", "/f/", {"p": ""}),
        ("/f/{p:path}", "/f", None),
        ("/f/{p:path}", "/f/a\nb", {"p": "a\nb"}),
        ("/{p:path}", "/", {"p": ""}),
        ("/{p:path}", "//", {"p": "/"}),
        ("/{p:path}", "", None),
        ("/{p:path}", "x/y", None),
        ("/{p:path}", "*", None),
        ("/f/{p:path}/raw", "/f/a/b/raw", {"p": "a/b"}),
        ("/f/{p:path}/raw", "/f//raw", {"p": ""}),
        ("/f/{p:path}/raw", "/f/raw", None),
        ("/f/{p:path}/raw", "/f/raw/raw", {"p": "raw"}),
        ("/f/{p:path}/raw", "/f/a/raw/b", None),
        ("/f/{p:path}/v/{n:int}", "/f/a/v/1/v/2", {"p": "a/v/1", "n": 2}),
        ("/f/{p:path}/{a}-{b}/end", "/f/x/y/1-2/end", {"p": "x/y", "a": "1", "b": "2"}),
        ("/{a}/{p:path}", "/x/y/z", {"a": "x", "p": "y/z"}),
        ("/{p:path}.json", "/a/b.json", {"p": "a/b"}),
        ("/{p:path}.json", "/a.json/b", None),
        ("/{p:path}.json", "/.json", {"p": ""}),
        ("/v-{p:path}", "/v-/x", {"p": "/x"}),
        ("/{p:path}.{ext}", "/a.b/c.tar.gz", {"p": "a.b/c.tar", "ext": "gz"}),
        ("/{p:path}.{ext}", "/a.b/c", None),
        ("/{p:path}{x}", "/a/", None),
        ("/{p:path}{x}", "/a/b", {"p": "a/", "x": "b"}),
        ("/{x}{p:path}", "/ab/c", {"x": "ab", "p": "/c"}),
        ("/{a}-{p:path}", "/x-y/z-w", {"a": "x", "p": "y/z-w"}),
        ("/{a}-{p:path}", "/x/z-w", None),
        ("/files/{name}.json", "/files/a.json", {"name": "a"}),
        ("/files/{name}.json", "/files/.json", None),
        ("/files/{name}.json", "/files/a.json.json", {"name": "a.json"}),
        ("/files/{name}.json", "/files/a.jsonx", None),
        ("/files/{name}.json", "/files/axjson", None),
        ("/{a}-{b}", "/x-y", {"a": "x", "b": "y"}),
        ("/{a}-{b}", "/x-y-z", {"a": "x-y", "b": "z"}),
        ("/{a}-{b}", "/x-", None),
        ("/{a}-{b}", "/-y", None),
        ("/{a}-{b}", "/---", {"a": "-", "b": "-"}),
        ("/{a:int}-{b}", "/1-2-3", {"a": 1, "b": "2-3"}),
        ("/{a}-{b:int}", "/1-2-3", {"a": "1-2", "b": 3}),
        ("/{x:float}.{ext}", "/1.5", {"x": 1.0, "ext": "5"}),
        ("/{a}{b}", "/xyz", {"a": "xy", "b": "z"}),
        ("/{a:int}{b:int}", "/123", {"a": 12, "b": 3}),
        ("/v{n:int}", "/v2", {"n": 2}),
        ("/v{n:int}", "/v", None),
    ],
)
def test_a_template_takes_these_paths_and_gives_these_parameters(template, path, params):
    assert matched(router(template), path) == (None if params is None else (template, params))
    if params is not None:
        match = router(template).match("GET", path)
        assert isinstance(match, Match)
        assert [(name, type(value)) for name, value in match.params.items()] == [
            (name, type(value)) for name, value in params.items()
        ]


def test_params_belong_to_one_request():
    for template, path in (("/a", "/a"), ("/{x}", "/b")):
        table = router(template)
        first, second = table.match("GET", path), table.match("GET", path)
        assert isinstance(first, Match)
        assert isinstance(second, Match)
        first.params["mine"] = 1
        assert "mine" not in second.params


def test_a_registered_convertor_is_typed_and_its_value_error_means_no_match(registered):
    class Even(Convertor[int]):
        regex = "[0-9]+"

        def convert(self, value: str) -> int:
            if int(value) % 2:
                raise ValueError("odd")
            return int(value)

    class Lower(StringConvertor):
        regex = "[a-z]+"

    registered("even", Even())
    registered("lower", Lower())
    table = router("/{x}", "/{n:even}", "/{s:lower}", "/a/{n:even}-{m:even}")
    assert matched(table, "/abc") == ("/{s:lower}", {"s": "abc"})
    assert matched(table, "/Abc") == ("/{x}", {"x": "Abc"})
    assert matched(table, "/4") == ("/{n:even}", {"n": 4})
    assert matched(table, "/5") == ("/{x}", {"x": "5"})
    assert matched(table, "/a/2-4") == ("/a/{n:even}-{m:even}", {"n": 2, "m": 4})
    assert matched(table, "/a/2-5") is None


def test_a_convertor_that_subclasses_the_path_convertor_spans_segments_any_other_sees_one(registered):
    class Pure(PathConvertor):
        def convert(self, value: str) -> Any:
            return PurePosixPath(value)

    class Anything(Convertor[str]):
        regex = ".*"

        def convert(self, value: str) -> str:
            return value

    registered("pure", Pure())
    registered("anything", Anything())
    assert matched(router("/{p:pure}/raw"), "/a/b/raw") == ("/{p:pure}/raw", {"p": PurePosixPath("a/b")})
    assert matched(router("/{p:anything}"), "/") == ("/{p:anything}", {"p": ""})
    assert matched(router("/{p:anything}"), "/a/b") is None
    assert matched(router("/{p:path}-{x:anything}"), "/a-b/c") is None
    assert matched(router("/{x:anything}-{p:path}"), "/a/b-c") is None
    with pytest.raises(RouteError, match="a second 'path' parameter"):
        router("/{p:path}/{q:pure}")


def test_a_convertors_named_groups_do_not_leak_into_the_parameters(registered):
    class Year(Convertor[str]):
        regex = "(?P<b>[0-9]{4})"

        def convert(self, value: str) -> str:
            return "year " + value

    registered("year", Year())
    assert matched(router("/{a:year}-{b}"), "/2024-x") == ("/{a:year}-{b}", {"a": "year 2024", "b": "x"})


# Precedence


@pytest.mark.parametrize(
    ("templates", "path", "wins"),
    [
        (["/{x}", "/a"], "/a", "/a"),
        (["/{x:int}", "/1"], "/1", "/1"),
        (["/{p:path}", "/{x}"], "/a", "/{x}"),
        (["/{p:path}", "/{x}"], "/a/b", "/{p:path}"),
        (["/{x}", "/{x:int}"], "/1", "/{x:int}"),
        (["/{x}", "/{x:int}"], "/a", "/{x}"),
        (["/{x:uuid}", "/{x}.json"], "/a.json", "/{x}.json"),
        (["/{x:int}", "/{x:int}{y:int}"], "/12", "/{x:int}{y:int}"),
        (["/{x}", "/{p:path}.json"], "/a.json", "/{x}"),
        (["/{p:path}", "/{p:path}.json"], "/a/b.json", "/{p:path}.json"),
        (["/{x}/b", "/{x:int}/{y}"], "/1/b", "/{x:int}/{y}"),
        (["/a/{p:path}", "/{x}/b"], "/a/b", "/a/{p:path}"),
        (["/{p:path}", "/{p:path}/raw"], "/a/raw", "/{p:path}/raw"),
        (["/{p:path}/b", "/{p:path}/a/b"], "/x/a/b", "/{p:path}/a/b"),
        (["/{p:path}/{x}", "/{p:path}/{x:int}"], "/a/1", "/{p:path}/{x:int}"),
        # A failure further to the right gives the next template its turn.
        (["/a/{x:int}/b", "/a/{y}/c"], "/a/1/b", "/a/{x:int}/b"),
        (["/a/{x:int}/b", "/a/{y}/c"], "/a/1/c", "/a/{y}/c"),
        (["/a/b/c", "/a/{x}/d", "/{y}/b/e", "/{p:path}"], "/a/b/d", "/a/{x}/d"),
        (["/a/b/c", "/a/{x}/d", "/{y}/b/e", "/{p:path}"], "/a/b/e", "/{y}/b/e"),
        (["/a/b/c", "/a/{x}/d", "/{y}/b/e", "/{p:path}"], "/a/b/f", "/{p:path}"),
        (["/{x:int}", "/{y}"], "/" + "9" * 5000, "/{y}"),
        # Equal kinds: first come, first served; and a later difference goes before the order.
        (["/{x:float}", "/{x:int}"], "/1", "/{x:float}"),
        (["/{x:int}", "/{x:float}"], "/1", "/{x:int}"),
        (["/{a}-{b}", "/{name}.json"], "/x-y.json", "/{a}-{b}"),
        (["/{name}.json", "/{a}-{b}"], "/x-y.json", "/{name}.json"),
        (["/{x:int}/{y}", "/{x:float}/b"], "/1/b", "/{x:float}/b"),
    ],
)
def test_the_more_specific_template_goes_first(templates, path, wins):
    found = matched(router(*templates), path)
    assert found is not None
    assert found[0] == wins


# Methods


def test_head_follows_get_unless_it_has_a_route_of_its_own():
    table: Router[str] = Router()
    table.add("GET", "/a", "get a")
    table.add("GET", "/{x}", "get x")
    table.add("HEAD", "/{y}", "head y")
    table.add("HEAD", "/b/{z}", "head b")
    table.add("GET", "/b/{z}", "get b")
    for method, path, endpoint in [
        ("GET", "/a", "get a"),
        ("HEAD", "/a", "get a"),
        ("GET", "/c", "get x"),
        ("HEAD", "/c", "head y"),
        ("HEAD", "/b/1", "head b"),
        ("GET", "/b/1", "get b"),
    ]:
        match = table.match(method, path)
        assert isinstance(match, Match)
        assert match.endpoint == endpoint
    assert len(table.routes()) == 5


def test_a_method_mismatch_only_if_no_matching_template_has_the_method():
    table: Router[str] = Router()
    table.add("GET", "/todos/new", "new")
    table.add("DELETE", "/todos/{id}", "delete")
    table.add("POST", "/{p:path}", "post")
    assert table.match("DELETE", "/todos/new") == Match("delete", {"id": "new"}, "/todos/{id}")
    assert table.match("POST", "/todos/new") == Match("post", {"p": "todos/new"}, "/{p:path}")
    everything = ("DELETE", "GET", "HEAD", "OPTIONS", "POST")
    assert table.match("PUT", "/todos/new") == MethodMismatch(everything)
    assert table.match("OPTIONS", "/todos/new") == MethodMismatch(everything)
    assert table.match("get", "/todos/7") == MethodMismatch(("DELETE", "OPTIONS", "POST"))
    assert table.allowed("/todos/new") == everything
    assert table.match("PUT", "nowhere") is None
    assert table.allowed("nowhere") == ()


def test_an_options_route_of_its_own_answers():
    table: Router[str] = Router()
    table.add("OPTIONS", "/a", "mine")
    assert table.match("OPTIONS", "/a") == Match("mine", {}, "/a")
    assert table.allowed("/a") == ("OPTIONS",)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/a", "/a"),
        ("/a/{x}", "/a/{y}"),
        ("/a/{x}", "/a/{y:str}"),
        ("/{x:int}-{y}", "/{y:int}-{x}"),
        ("/{p:path}/a", "/{q:path}/a"),
    ],
)
def test_a_duplicate_is_an_error_that_names_both(first, second):
    table: Router[int] = Router()
    table.add("GET", first, 1, "shop.first")
    with pytest.raises(RouteError) as caught:
        table.add("GET", second, 2, "shop.second")
    assert f"GET {second} (shop.second) has the same shape as GET {first} (shop.first)" in str(caught.value)
    with pytest.raises(RouteError, match=re.escape(f"GET {second} has the same shape as GET {first} (shop.first)")):
        table.add("GET", second, 2)
    table.add("POST", second, 3)


@pytest.mark.parametrize(
    ("first", "second"),
    [("/a", "/a/"), ("/a/{x:int}", "/a/{x:float}"), ("/{a}-{b}", "/{a}.{b}"), ("/{x}", "/{x:path}")],
)
def test_another_shape_is_no_duplicate(first, second):
    assert len(router(first, second).routes()) == 2


def test_routes_come_back_in_the_order_in_which_they_were_added():
    table: Router[int] = Router()
    added = [("POST", "/{x}", 1), ("GET", "/b", 2), ("GET", "/a", 3), ("HEAD", "/b", 4), ("GET", "/{p:path}", 5)]
    for route in added:
        table.add(*route)
    assert table.routes() == added
    assert repr(table) == "<Router routes=5 methods=GET,HEAD,POST>"


# Against an oracle that knows no groups: one regular expression a template, tried in order of precedence

SEGMENTS = [
    *("a", "b", "", "1", "{}", "{}", "{:int}", "{:float}", "{:uuid}", "{}.json", "v{:int}", "{}-{}", "{:int}-{}"),
    *("{}.{:int}", "{:float}.{}", "{}{}", "{:int}{}", "{}-{:int}.{}", "{:path}", "{:path}.json", "v{:path}-{}"),
    *("{}.{:path}", "{}{:path}{:int}", "{:path}-{}.{:int}"),
]
PIECES = ["a", "b", "1", "22", "1.5", "-", ".", ".json", "v", "x-y", "é", "٣", "\n", UUID, ""]


@st.composite
def templates(draw: st.DrawFn) -> str:
    segments = draw(st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=4))
    text = "/" + "/".join(segments)
    first = text.find("{:path}")
    if first >= 0:  # one path parameter is allowed
        text = text[: first + 1] + text[first + 1 :].replace("{:path}", "{}")
    names = iter(draw(st.permutations("mnopqrstuvwx")))
    return re.sub(r"\{", lambda _: "{" + next(names), text)


PATHS = st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), max_size=5).map(
    lambda segments: "/" + "/".join(segments)
)


def oracle_kinds(template: str) -> list[int]:
    kinds = []
    for segment in template.split("/")[1:]:
        whole = re.fullmatch(r"\{\w+:?(\w*)\}", segment)
        if "{" not in segment:
            kinds.append(0)
        elif whole is None:
            kinds.append(4 if ":path" in segment else 1)
        else:
            kinds.append({"": 3, "str": 3, "path": 5}.get(whole[1], 2))
    return [*kinds, 6] if ":path" in template else kinds


def oracle_match(template: str, path: str) -> dict[str, Any] | None:
    regex, end, convertors = "", 0, {}
    for found in re.finditer(r"\{(\w+)(?::(\w+))?\}", template):
        convertors[found[1]] = convertor = CONVERTOR_TYPES[found[2] or "str"]
        regex += re.escape(template[end : found.start()]) + f"(?P<{found[1]}>(?s:{convertor.regex}))"
        end = found.end()
    match = re.fullmatch(regex + re.escape(template[end:]), path)
    if match is None:
        return None
    return {name: convertor.convert(match[name]) for name, convertor in convertors.items()}


def oracle(routes: list[tuple[str, str]], method: str, path: str) -> tuple[str, dict[str, Any]] | None:
    candidates = [route for route in routes if route[0] == method]
    if method == "HEAD":
        own = {shape(template) for _, template in candidates}
        candidates = [
            route for route in routes if route[0] == "HEAD" or (route[0] == "GET" and shape(route[1]) not in own)
        ]
    for _, template in sorted(candidates, key=lambda route: oracle_kinds(route[1])):  # a stable sort
        params = oracle_match(template, path)
        if params is not None:
            return template, params
    return None


def shape(template: str) -> str:
    return re.sub(r"\{\w+", "{", template).replace("{}", "{:str}")


@given(st.lists(st.tuples(st.sampled_from(["GET", "HEAD", "POST"]), templates()), max_size=8), st.lists(PATHS))
def test_the_answer_is_that_of_trying_every_template_in_order_of_precedence(routes, paths):
    table: Router[str] = Router()
    kept: list[tuple[str, str]] = []
    for method, template in routes:
        duplicate = (method, shape(template)) in {(own, shape(other)) for own, other in kept}
        if duplicate:
            with pytest.raises(RouteError, match="the same shape"):
                table.add(method, template, template)
        else:
            table.add(method, template, template)
            kept.append((method, template))
    assert [(method, template) for method, template, _ in table.routes()] == kept

    # A random path seldom fits: fill the templates themselves, too.
    filled = [re.sub(r"\{\w+:?(\w*)\}", lambda m: {"path": "a/1", "uuid": UUID}.get(m[1], "1"), t) for _, t in kept]
    for path in [*paths, *filled]:
        expected = {method: oracle(kept, method, path) for method in ("GET", "HEAD", "POST", "OPTIONS")}
        allowed = sorted(method for method, found in expected.items() if found is not None)
        assert table.allowed(path) == (tuple(sorted([*allowed, "OPTIONS"])) if allowed else ())
        for method, found in expected.items():
            assert matched(table, path, method) == found
            if found is None:
                mismatch = MethodMismatch(table.allowed(path)) if allowed else None
                assert table.match(method, path) == mismatch


@given(templates(), st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
@example("/{m}-{n:int}.{o}", "1-2.3-4.5")
def test_a_mixed_segment_is_cut_as_one_regular_expression_would_cut_it(template, text):
    for number, segment in enumerate(parse_template(template).segments):
        if isinstance(segment, Mixed):
            own = "/" + template.split("/")[number]
            assert matched(router(own), "/" + text) == (
                None if (params := oracle_match(own, "/" + text)) is None else (own, params)
            )


# No path can hurt

EVERYTHING = ["/", "/a", "/{a}/b", "/{x:int}", "/{x:float}", "/{x:uuid}", "/{a}-{b}", "/f/{p:path}", "/g/{p:path}/raw"]


@given(st.text(st.characters(codec=None), max_size=40) | st.text("/ab1-.\x00\ud800\n", max_size=40))
@example("")
@example("*")
@example("//")
@example("http://h/a")
@example("/" * 10_000)
@example("/f/" + "\ud800\x00/" * 10_000)
@example("/" + "9" * 10_000)
@example("/" + "1." * 10_000)
def test_any_string_gives_an_answer(path):
    table = router(*EVERYTHING)
    allowed = table.allowed(path)
    assert allowed in ((), ("GET", "HEAD", "OPTIONS"))
    assert table.match("POST", path) == (MethodMismatch(allowed) if allowed else None)
    assert isinstance(table.match("GET", path), Match) is bool(allowed)
    if not path.startswith("/"):
        assert allowed == ()


def test_each_template_is_tried_at_most_once_whatever_the_path(registered):
    """All 2**8 ways to fill eight segments from two convertors, and a path that each fits but for its end."""
    converted = 0

    class Counting(Convertor[str]):
        regex = "[0-9]+"

        def convert(self, value: str) -> str:
            nonlocal converted
            converted += 1
            return value

    registered("one", Counting())
    registered("two", Counting())
    table: Router[int] = Router()
    for number in range(2**8):
        middle = "".join(f"/{{p{i}:{'one' if number >> i & 1 else 'two'}}}" for i in range(8))
        table.add("POST", f"{middle}/{{end:uuid}}", number)
    assert table.match("POST", "/1" * 8 + "/nope") is None
    assert converted <= 2 * 2**8 * 8  # once to match, once to find the methods for the answer


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("/{a}-{b}-{c}-{d}.html", "/" + "-" * 100_000),
        ("/{a}-{b:int}.{c}-{d}.html", "/" + "-1." * 30_000),
        ("/{a}-{b}-{c}/{d}-{e}/x", "/" + "-" * 50_000 + "/" + "-" * 50_000 + "/y"),
        ("/{p:path}-{a}-{b}-{c}.html", "/" + "-" * 50_000 + "/" + "-" * 50_000),
        ("/{a}-{b}-{p:path}-{c}-{d}.html", "/-" * 50_000),
        ("/{p:path}/{a}/{b}/{c}/{d}/raw", "/a" * 50_000),
        ("/{a:int}-{b:int}-{c:int}x", "/" + "1" * 100_000),
        ("/{a:float}.{b}.{c}x", "/" + "1." * 50_000),
        ("/{a}_{b}-{c}-{d}", "/" + "-" * 100_000),
        ("/x{a}-{b}-{c}-{d}", "/" + "-" * 100_000),
        ("/{a}-{b:int}x{c}-{d:int}", "/" + "-1" * 50_000),
    ],
)
def test_a_nasty_path_takes_linear_time(template, path):
    """A regular expression for the whole of the first template takes seconds at 400 characters already."""
    assert router(template).match("GET", path) is None
