"""The todo example, as a client sees it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi_kit import configured
from starlette.testclient import TestClient

import examples.todo.app as todo

pytestmark = pytest.mark.usefixtures("engine")

PROBLEM = "application/problem+json"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "todo.db"


@pytest.fixture
def client(database: Path, tmp_path: Path) -> Iterator[TestClient]:
    stores = {"databases": {"default": f"sqlite:///{database}"}, "kv": f"sqlite:///{tmp_path}/kv.db"}
    configured(todo.app, effects=stores, limits={"body_bytes": 1000})
    with TestClient(todo.app) as client:
        yield client
    todo.app.config = None


def rows(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        count: int = connection.execute("select count(*) from todo").fetchone()[0]
    connection.close()
    return count


def make(client: TestClient, title: str = "buy milk") -> dict[str, Any]:
    answer = client.post("/todos", json={"title": title})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_create_answers_201_with_location_and_the_row(client: TestClient) -> None:
    answer = client.post("/todos", json={"title": "buy milk"})
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["location"] == f"/todos/{body['id']}"
    assert (body["title"], body["done"], body["version"]) == ("buy milk", False, 1)
    assert client.get(answer.headers["location"]).json() == body


def test_create_again_with_the_same_key_gives_the_first_row(client: TestClient, database: Path) -> None:
    headers = {"idempotency-key": "order-1"}
    first = client.post("/todos", json={"title": "a"}, headers=headers)
    again = client.post("/todos", json={"title": "a"}, headers=headers)
    assert first.json() == again.json()
    assert rows(database) == 1


def test_list_goes_page_by_page_and_filters(client: TestClient) -> None:
    made = [make(client, f"todo {n}") for n in range(5)]
    client.patch(f"/todos/{made[1]['id']}", json={"done": True})
    seen, url = [], "/todos?limit=2"
    while url:
        page = client.get(url).json()
        assert len(page["items"]) <= 2
        seen += [item["id"] for item in page["items"]]
        url = page["next"]
    assert seen == [item["id"] for item in made]
    assert [item["id"] for item in client.get("/todos?done=true").json()["items"]] == [made[1]["id"]]
    following = client.get("/todos?done=false&limit=1").json()["next"]
    assert [item["id"] for item in client.get(following).json()["items"]] == [made[2]["id"]]


def test_an_empty_list_is_a_list(client: TestClient) -> None:
    assert client.get("/todos").json() == {"items": [], "next": None}


def test_change_counts_versions_and_refuses_an_outdated_one(client: TestClient) -> None:
    made = make(client)
    url = f"/todos/{made['id']}"
    changed = client.patch(url, json={"done": True, "version": 1})
    assert changed.status_code == 200
    assert (changed.json()["done"], changed.json()["version"], changed.json()["title"]) == (True, 2, "buy milk")
    outdated = client.patch(url, json={"title": "other", "version": 1})
    assert outdated.status_code == 409
    assert outdated.json()["key"] == "$.version"
    assert "version 2" in outdated.json()["detail"]
    assert client.get(url).json() == changed.json()


def test_delete_answers_204_and_then_404(client: TestClient) -> None:
    url = f"/todos/{make(client)['id']}"
    gone = client.delete(url)
    assert (gone.status_code, gone.content) == (204, b"")
    assert client.get(url).status_code == 404
    assert client.delete(url).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "words"),
    [
        ("POST", "/todos", b'{"title": ', 400, "JSON"),
        ("POST", "/todos", b"", 400, "empty"),
        ("POST", "/todos", b'{"title": 7}', 422, "$.title"),
        ("POST", "/todos", b'{"title": ""}', 422, "$.title"),
        ("POST", "/todos", b'{"title": "   "}', 422, "$.title"),
        ("POST", "/todos", b'{"title": "%s"}' % (b"x" * 201), 422, "$.title"),
        ("POST", "/todos", b"{}", 422, "title"),
        ("POST", "/todos", b"[]", 422, "object"),
        ("POST", "/todos", b'{"title": "a", "colour": "red"}', 422, "colour"),
        ("POST", "/todos", b'{"title": "%s"}' % (b"x" * 2000), 413, "1000 bytes"),
        ("POST", "/todos", b'{"title": "\\ud800"}', 400, ""),
        ("GET", "/todos?limit=0", b"", 422, "query.limit"),
        ("GET", "/todos?limit=many", b"", 422, "query.limit"),
        ("GET", "/todos?limit=1&limit=2", b"", 422, "query.limit"),
        ("GET", "/todos?done=perhaps", b"", 422, "query.done"),
        ("GET", "/todos/999", b"", 404, ""),
        ("GET", "/todos/0", b"", 422, "path.id"),
        ("GET", "/todos/99999999999999999999", b"", 422, "path.id"),
        ("GET", "/todos/abc", b"", 404, "/todos/abc"),
        ("GET", "/nothing", b"", 404, "/nothing"),
        ("PUT", "/todos", b"{}", 405, "PUT"),
        ("PATCH", "/todos/999", b'{"done": true}', 404, ""),
        ("PATCH", "/todos/999", b'{"done": "yes"}', 422, "$.done"),
        ("DELETE", "/todos/999", b"", 404, ""),
    ],
)
def test_bad_requests_get_a_problem_that_says_what_was_wrong_and_store_nothing(
    client: TestClient, database: Path, method: str, path: str, content: bytes, status: int, words: str
) -> None:
    answer = client.request(method, path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    body = answer.json()
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert words in json.dumps(body)
    assert rows(database) == 0


def test_a_form_is_not_json(client: TestClient) -> None:
    answer = client.post("/todos", data={"title": "a"})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


def test_405_and_options_name_the_methods(client: TestClient) -> None:
    assert client.put("/todos/1", json={}).headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"
    options = client.options("/todos")
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")


def test_head_is_get_without_its_body(client: TestClient) -> None:
    url = f"/todos/{make(client)['id']}"
    head, get = client.head(url), client.get(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))


def test_what_is_stored_survives_a_restart(client: TestClient) -> None:
    made = make(client)
    client.__exit__(None, None, None)
    with TestClient(todo.app) as again:
        assert again.get(f"/todos/{made['id']}").json() == made
    client.__enter__()


def test_the_app_has_no_findings() -> None:
    assert todo.app.check().errors == ()
    assert todo.app.check().warnings == ()
