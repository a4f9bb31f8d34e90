"""The configuration: what is read, which layer wins, and what each mistake is answered with."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zerver.config import (
    BreakerConfig,
    BulkheadConfig,
    Config,
    ConfigError,
    EffectsConfig,
    ObservabilityConfig,
    RetryConfig,
    TargetConfig,
    load,
    load_config,
    parse,
    sqlite_path,
)
from zerver.config.rules import admin_address, engine_enabled, sql_store

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs/reference/configuration.md").read_text()


def at(config: object, path: str) -> object:
    for key in path.split("."):
        config = config[key] if isinstance(config, dict) else getattr(config, key)
    return config


def nested(path: str, value: object) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def leaves(kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, object, Any]]:
    """Each setting that can be named in advance: its path, its default as JSON, its type."""
    for one in msgspec.structs.fields(kind):
        here = (*path, one.name)
        default = one.default if one.default_factory is msgspec.NODEFAULT else one.default_factory()
        if isinstance(one.type, type) and issubclass(one.type, msgspec.Struct):
            for name, value, inner in leaves(one.type, here):
                # The default of a nested Struct is an instance, which may differ from the defaults of its class.
                kept = at(default, name.removeprefix(".".join(here) + "."))
                yield name, value if kept is None else msgspec.to_builtins(kept), inner
        else:
            yield ".".join(here), msgspec.to_builtins(default), one.type


LEAVES = list(leaves(Config))


# --- defaults ---


def test_without_any_configuration_the_documented_defaults_hold() -> None:
    config = load({})
    assert config == Config()
    assert (config.server.host, config.server.port, config.server.uds, config.server.grace) == (
        "127.0.0.1",
        8080,
        None,
        10.0,
    )
    assert (config.limits.body_bytes, config.limits.deadline, config.limits.retry_budget) == (1 << 20, 30.0, 10)
    assert (config.reactor.continuation_pool.size, config.reactor.effector_pool.size) == (32, 16)
    assert config.effects.databases == {"default": "sqlite:///var/zerver.db"}
    assert config.observability.debug is False


def test_config_json_of_the_repository_lists_every_setting_with_its_default() -> None:
    data = parse((ROOT / "config.json").read_bytes())
    assert load(data) == Config()
    assert data == msgspec.to_builtins(Config())


def test_every_default_is_itself_allowed() -> None:
    for path, default, _ in LEAVES:
        assert at(load(nested(path, default)), path) == at(Config(), path), path


def test_the_configuration_is_frozen() -> None:
    with pytest.raises(AttributeError):
        load({}).server.port = 1  # type: ignore[misc]  # what is tested


# --- which layer wins ---

PORT = "ZERVER_SERVER__PORT"


@pytest.mark.parametrize(
    ("file", "env", "flag", "port"),
    [
        (None, None, None, 8080),
        (1, None, None, 1),
        (None, "2", None, 2),
        (None, None, 3, 3),
        (1, "2", None, 2),
        (1, None, 3, 3),
        (None, "2", 3, 3),
        (1, "2", 3, 3),
    ],
)
def test_flags_win_over_the_environment_which_wins_over_the_file(
    file: int | None, env: str | None, flag: int | None, port: int
) -> None:
    config = load(
        {} if file is None else {"server": {"port": file, "host": "file"}},
        {} if env is None else {PORT: env},
        {} if flag is None else {"server": {"port": flag}},
    )
    assert config.server.port == port
    assert config.server.host == ("127.0.0.1" if file is None else "file"), "settings beside it stay"


@pytest.mark.parametrize("path", [path for path, _, _ in LEAVES])
def test_every_setting_can_be_set_by_a_variable(path: str) -> None:
    changed = {"effects.databases": {"default": "sqlite:///b.db"}, "effects.targets": {"kv": {"timeout": 2.0}}}
    default = next(value for name, value, _ in LEAVES if name == path)
    other: object
    if path in changed:
        other = changed[path]
    elif path in ("reactor.enabled", "trace.enabled", "trace.otlp") or isinstance(default, bool):
        other = not default
    elif isinstance(default, int | float):
        other = default + 1
    else:
        others: dict[str, object] = {
            "server.log_level": "debug",
            "server.log_format": "json",
            "effects.kv": "sqlite:///k.db",
            "effects.cache": "redis://c",
            "reactor.continuation_pool.mode": "pool",
            "reactor.compute_pool.size": 3,
            "schedulers.performance": 3,
            "server.trusted_proxies": ["10.0.0.0/8", "unix"],
            "trace.store": "sqlite:///t.db",
            "trace.slow_ms": 250.0,
            "trace.trusted": ["10.0.0.0/8", "unix"],
            "trace.redact": ["x-tenant"],
            "observability.admin": "127.0.0.1:9180",
        }
        other = others.get(path, "elsewhere")
    text = other if isinstance(other, str) else json.dumps(other)
    config = load({}, {"ZERVER_" + path.upper().replace(".", "__"): text})
    assert config == load(nested(path, other)) != Config()


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("ZERVER_SERVER__PORT", "9000", "server.port", 9000),
        ("zerver_server__Port", "9000", "server.port", 9000),
        ("ZERVER_SERVER__HOST", "::1", "server.host", "::1"),
        ("ZERVER_SERVER__HOST", '"::1"', "server.host", "::1"),
        ("ZERVER_SERVER__HOST", "123", "server.host", "123"),
        ("ZERVER_SERVER__HOST", "null", "server.host", "null"),
        ("ZERVER_SERVER__UDS", "null", "server.uds", None),
        ("ZERVER_SERVER__UDS", "/run/a.sock", "server.uds", "/run/a.sock"),
        ("ZERVER_LIMITS__DEADLINE", "1", "limits.deadline", 1.0),
        ("ZERVER_LIMITS__DEADLINE", "1e1", "limits.deadline", 10.0),
        ("ZERVER_REACTOR__ENABLED", "false", "reactor.enabled", False),
        ("ZERVER_REACTOR__CONTINUATION_POOL__SIZE", "4", "reactor.continuation_pool.size", 4),
        ("ZERVER_REACTOR__CONTINUATION_POOL", '{"size": 4}', "reactor.continuation_pool.size", 4),
        ("ZERVER_EFFECTS__DATABASES__DEFAULT", "sqlite:///x.db", "effects.databases.default", "sqlite:///x.db"),
        ("ZERVER_EFFECTS__DATABASES__REPORTS", "sqlite:///r.db", "effects.databases.reports", "sqlite:///r.db"),
        ("ZERVER_EFFECTS__TARGETS__KV__TIMEOUT", "2", "effects.targets.kv.timeout", 2.0),
        ("ZERVER_EFFECTS__TARGETS__KV__RETRY__ATTEMPTS", "2", "effects.targets.kv.retry.attempts", 2),
        ("ZERVER_EFFECTS__TARGETS", '{"kv": {"timeout": 2}}', "effects.targets.kv.timeout", 2.0),
        ("ZERVER_DEBUG", "1", "observability.debug", True),
        ("ZERVER_DEBUG", "True", "observability.debug", True),
        ("ZERVER_DEBUG", "0", "observability.debug", False),
        ("ZERVER_DEBUG", "", "observability.debug", False),
    ],
)
def test_a_variable_is_read_as_json_where_that_fits_else_as_text(
    name: str, text: str, path: str, value: object
) -> None:
    found = at(load({}, {name: text}), path)
    assert found == value
    assert type(found) is type(value)


def test_a_section_in_the_environment_is_merged_and_a_more_exact_name_wins() -> None:
    env = {"ZERVER_REACTOR__EFFECTOR_POOL__SIZE": "3", "ZERVER_REACTOR__EFFECTOR_POOL": '{"size": 2, "queue": 2}'}
    data = {"reactor": {"effector_pool": {"queue": 1}, "continuation_pool": {"size": 1}}}
    for given_env in (env, dict(reversed(env.items()))):
        pools = load(data, given_env).reactor
        assert (pools.effector_pool.size, pools.effector_pool.queue, pools.continuation_pool.size) == (3, 2, 1)


def test_the_long_name_of_debug_wins_over_the_short_one() -> None:
    env = {"ZERVER_DEBUG": "1", "ZERVER_OBSERVABILITY__DEBUG": "false"}
    assert load({}, env).observability.debug is False
    assert load({"observability": {"debug": True}}, {"ZERVER_DEBUG": "0"}).observability.debug is False


def test_a_variable_finds_a_name_of_the_file_in_any_case() -> None:
    data = {"effects": {"databases": {"Reports": "sqlite:///a.db"}}}
    config = load(data, {"ZERVER_EFFECTS__DATABASES__REPORTS": "sqlite:///b.db"})
    assert config.effects.databases == {"default": "sqlite:///var/zerver.db", "Reports": "sqlite:///b.db"}


@pytest.mark.parametrize("name", ["ZERVER_CONFIG", "ZERVER_PORT", "SERVER__PORT", "XZERVER_A__B"])
def test_variables_that_are_not_settings_are_left_alone(name: str) -> None:
    assert load({}, {name: "tcp://10.0.0.1:80"}) == Config()


def test_uds_and_port_may_both_be_given() -> None:
    server = load({"server": {"port": 1}}, {}, {"server": {"uds": "/run/a.sock"}}).server
    assert (server.port, server.uds) == (1, "/run/a.sock")


def test_the_layers_are_not_changed() -> None:
    data: dict[str, Any] = {"effects": {"targets": {"kv": {"breaker": {"failures": 1}}}, "databases": {}}}
    before = json.dumps(data)
    load(data, {"ZERVER_EFFECTS__TARGETS__KV__BREAKER__PROBES": "2"}, {"effects": {"targets": {"kv": {"timeout": 1}}}})
    assert json.dumps(data) == before


# --- targets ---


def test_what_a_targets_breaker_or_bulkhead_leaves_out_is_as_in_the_defaults() -> None:
    effects = load(
        {
            "effects": {
                "default_breaker": {"window": 60, "failures": 9},
                "targets": {"kv": {"breaker": {"failures": 1}, "bulkhead": {}}},
            }
        },
        {"ZERVER_EFFECTS__DEFAULT_BREAKER__PROBES": "3"},
    ).effects
    assert effects.targets["kv"].breaker == BreakerConfig(failures=1, window=60.0, probes=3)
    assert effects.targets["kv"].bulkhead == BulkheadConfig()


def test_null_takes_back_a_part_of_a_target() -> None:
    data = {"effects": {"targets": {"kv": {"retry": {"attempts": 3}, "timeout": 1}}}}
    assert load(data, {"ZERVER_EFFECTS__TARGETS__KV__RETRY": "null"}).effects.targets == {"kv": TargetConfig(timeout=1)}


def test_policy_is_the_targets_own_then_that_of_the_family_and_the_defaults() -> None:
    effects = EffectsConfig(
        targets={
            "sql:default": TargetConfig(timeout=2.0, retry=RetryConfig(attempts=2), breaker=BreakerConfig(probes=7))
        }
    )
    own, other = effects.policy("sql:default"), effects.policy("sql:reports")
    assert (own.timeout, own.retry, own.breaker.probes, own.bulkhead) == (
        2.0,
        RetryConfig(attempts=2),
        7,
        effects.default_bulkhead,
    )
    assert (other.timeout, other.retry, other.breaker) == (effects.timeouts.sql, None, effects.default_breaker)
    assert effects.policy("http:a:80").timeout == 1.0
    assert effects.policy("kv").timeout == 0.3
    assert effects.policy("call:os.stat").timeout == 5.0
    assert effects.policy("custom:x").timeout is None


@pytest.mark.parametrize(
    "target",
    ["kv", "sql:default", "http:api.example.com:443", "http:[::1]:80", "http:10.0.0.1:65535", "call:json.dumps"],
)
def test_targets_of_every_family_are_known(target: str) -> None:
    assert target in load({"effects": {"targets": {target: {}}}}).effects.targets


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (
            "htpp:a:1",
            'unknown effect family, did you mean "http"? Allowed: actor, cache, call, compute, file, http, kv, sql',
        ),
        ("", "unknown effect family. Allowed: actor, cache, call, compute, file, http, kv, sql"),
        ("redis", "unknown effect family. Allowed: actor, cache, call, compute, file, http, kv, sql"),
        ("kv:x", "must be kv, which has no parts"),
        ("sql:defualt", 'no such database, did you mean "default"? Allowed: default'),
        ("sql", "no such database. Allowed: default"),
        ("http:a", "must be http:HOST:PORT, the host in lower case"),
        ("http:a:0", "must be http:HOST:PORT, the host in lower case"),
        ("http:a:65536", "must be http:HOST:PORT, the host in lower case"),
        ("http:a:٣", "must be http:HOST:PORT, the host in lower case"),
        ("http:A:1", "must be http:HOST:PORT, the host in lower case"),
        ("http:https://a:1", "must be http:HOST:PORT, the host in lower case"),
        ("http::1:80", "must be http:HOST:PORT, the host in lower case"),
        ("call:dumps", "must be call:MODULE.FUNCTION"),
        ("call:json.", "must be call:MODULE.FUNCTION"),
    ],
)
def test_a_target_that_nothing_can_reach_is_refused(target: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"effects": {"targets": {target: {}}}})
    spelled = f"effects.targets.{target}" if target.isalpha() else f"effects.targets{json.dumps([target])}"
    assert str(caught.value) == f"config.json: {spelled}: {problem}"


# --- databases ---


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/zerver.db", "var/zerver.db"),
        ("sqlite:////srv/zerver.db", "/srv/zerver.db"),
        ("SQLite:///a b@c.db", "a b@c.db"),
    ],
)
def test_a_sqlite_url_names_a_relative_or_absolute_file(url: str, path: str) -> None:
    assert sqlite_path(url) == path


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://localhost/db", "must be sqlite:///relative/path.db or sqlite:////absolute/path.db"),
        ("var/zerver.db", "must be sqlite:///relative/path.db"),
        ("sqlite:var/zerver.db", "must be sqlite:///relative/path.db"),
        ("sqlite://var/zerver.db", "must be sqlite:///relative/path.db"),
        ("sqlite://", "must be sqlite:///relative/path.db"),
        ("sqlite:///", "must be sqlite:///relative/path.db"),
        ("sqlite:///var/", "must be sqlite:///relative/path.db"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///a.db?mode=ro", "options are set in effects.sqlite"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url: str, said: str) -> None:
    for path in ("effects.databases.default", "effects.kv"):
        with pytest.raises(ConfigError, match=re.escape(f"flag: {path} = {json.dumps(url)}: ")) as caught:
            load({}, {}, nested(path, url))
        assert said in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://me:s3cret@h1,h2:5433/db?sslmode=require", "POSTGRES:///db"])
def test_a_database_may_be_postgresql(url: str) -> None:
    assert load({"effects": {"databases": {"reports": url}}}).effects.databases["reports"] == url
    assert sql_store(url) == "postgres"


@pytest.mark.parametrize("url", ["redis://localhost", "REDISS://me:s3cret@h:6380/2"])
def test_a_key_value_store_may_be_redis(url: str) -> None:
    assert load({"effects": {"kv": url}}).effects.kv == url
    assert load({"effects": {"cache": url}}).effects.cache == url


@pytest.mark.parametrize(
    ("path", "url", "said"),
    [
        ("effects.databases.default", "postgresql://", "must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("effects.databases.default", "postgresql+asyncpg://localhost/db", "without the name of a driver"),
        ("effects.databases.default", "redis://localhost", "or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("effects.kv", "postgresql://localhost/db", "must be sqlite:///relative/path.db"),
        ("effects.kv", "postgresql://localhost/db", "or redis://USER:PASSWORD@HOST:PORT/NUMBER (rediss:// for TLS)"),
        ("effects.cache", "memory", "must be memory://, or redis://USER:PASSWORD@HOST:PORT/NUMBER"),
        ("effects.cache", "sqlite:///c.db", "must be memory://, or redis://USER"),
        ("effects.kv", "redis://", "must be redis://USER:PASSWORD@HOST:PORT/NUMBER"),
        (
            "effects.kv",
            "valkey://localhost",
            "must be redis://USER:PASSWORD@HOST:PORT/NUMBER (rediss:// for TLS), for V",
        ),
    ],
)
def test_a_store_of_another_family_is_refused(path: str, url: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({}, {}, nested(path, url))
    assert said in str(caught.value)


def test_a_password_in_a_url_is_not_shown() -> None:
    for url in ("postgresql://me:s3cret@db/x", "postgresql://me:s3/c@ret@db/x"):
        with pytest.raises(ConfigError) as caught:
            load({}, {"ZERVER_EFFECTS__KV": url})
        assert '"postgresql://***@db/x"' in str(caught.value)
        assert "s3" not in str(caught.value)


# --- mistakes ---

WHOLE = "must be a whole number from"
MISTAKES = [
    # unknown keys
    ({"sever": {}}, 'sever = {...}: unknown key, did you mean "server"? Allowed: effects, limits, observability, '),
    (
        {"server": {"prot": 80}},
        'server.prot = 80: unknown key, did you mean "port"? Allowed: grace, host, log_format, ',
    ),
    ({"server": {"": 1}}, 'server[""] = 1: unknown key. Allowed: '),
    ({"server": {"Port": 1}}, 'server.Port = 1: unknown key, did you mean "port"?'),
    ({"server": {"a\nb": "c\nd"}}, 'server["a\\nb"] = "c\\nd": unknown key'),
    (
        {"effects": {"timeouts": {"grpc": 1}}},
        "effects.timeouts.grpc = 1: unknown key. Allowed: actor, cache, call, file, ",
    ),
    ({"effects": {"targets": {"sql:default": {"time": 1}}}}, 'effects.targets["sql:default"].time = 1: unknown key'),
    # wrong types
    ({"server": []}, "server = [...]: must be an object"),
    ({"server": None}, "server = null: must be an object"),
    ({"effects": {"databases": "sqlite:///x"}}, 'effects.databases = "sqlite:///x": must be an object'),
    ({"effects": {"targets": {"kv": None}}}, "effects.targets.kv = null: must be an object"),
    ({"effects": {"targets": {"kv": {"retry": 3}}}}, "effects.targets.kv.retry = 3: must be an object or null"),
    ({"server": {"port": "80"}}, f'server.port = "80": {WHOLE} 0 to 65535'),
    ({"server": {"port": True}}, f"server.port = true: {WHOLE} 0 to 65535"),
    ({"server": {"port": 80.5}}, f"server.port = 80.5: {WHOLE} 0 to 65535"),
    ({"server": {"port": None}}, f"server.port = null: {WHOLE} 0 to 65535"),
    ({"server": {"port": {}}}, f"server.port = {{...}}: {WHOLE} 0 to 65535"),
    ({"server": {"host": 1}}, "server.host = 1: must be a string of 1 to 4096 characters, no control characters"),
    ({"reactor": {"enabled": 1}}, "reactor.enabled = 1: must be true or false or null"),
    ({"observability": {"debug": "yes"}}, 'observability.debug = "yes": must be true or false'),
    # impossible values
    ({"server": {"port": -1}}, f"server.port = -1: {WHOLE} 0 to 65535"),
    ({"server": {"port": 65536}}, f"server.port = 65536: {WHOLE} 0 to 65535"),
    ({"server": {"port": 10**5000}}, f"server.port = a huge number: {WHOLE} 0 to 65535"),
    ({"server": {"host": ""}}, 'server.host = "": must be a string'),
    ({"server": {"host": "a\x00"}}, 'server.host = "a\\u0000": must be a string'),
    ({"server": {"host": "a\n"}}, 'server.host = "a\\n": must be a string'),
    ({"server": {"host": "\ud800"}}, 'server.host = "\\ud800": must be a string'),
    (
        {"server": {"uds": ""}},
        'server.uds = "": must be a string of 1 to 107 characters, no control characters or null',
    ),
    ({"server": {"uds": "/" * 108}}, 'server.uds = "' + "/" * 76 + "...: must be a string of 1 to 107"),
    ({"server": {"grace": -1}}, "server.grace = -1: must be a number from 0 to 86400"),
    ({"server": {"log_level": "loud"}}, 'server.log_level = "loud": must be one of '),
    (
        {"server": {"trusted_proxies": "::1"}},
        'server.trusted_proxies = "::1": must be a list, each of it a string',
    ),
    ({"trace": {"trusted": ["all"]}}, "trace.trusted: 'all' does not appear to be an IPv4 or IPv6 network; each is "),
    ({"trace": {"store": "t.db"}}, 'trace.store = "t.db": must be sqlite:///relative/path.db or sqlite:////absolute'),
    *[
        ({"observability": {"admin": admin}}, f'observability.admin = "{admin}": must be HOST:PORT, such as ')
        for admin in ("9180", ":1", "localhost", "localhost:", "a:65536", "a:b", "::1:9180", "[::1]", "a/b:1", "a:0x1")
    ],
    ({"server": {"trusted_proxies": ["10.0.0.1/8"]}}, "server.trusted_proxies: 10.0.0.1/8 has host bits set; each is "),
    ({"schedulers": {"performance": 0}}, f"schedulers.performance = 0: {WHOLE} 1 to 1024 or null"),
    ({"limits": {"deadline": 0}}, "limits.deadline = 0: must be a number above 0, at most 86400"),
    ({"limits": {"deadline": float("nan")}}, "limits.deadline = NaN: must be a number above 0, at most 86400"),
    ({"limits": {"deadline": 1e999}}, "limits.deadline = Infinity: must be a number above 0, at most 86400"),
    ({"limits": {"deadline": 10**400}}, "limits.deadline = 1000"),
    ({"limits": {"body_bytes": -1}}, f"limits.body_bytes = -1: {WHOLE} 0 to 1099511627776"),
    ({"reactor": {"effector_pool": {"size": 0}}}, f"reactor.effector_pool.size = 0: {WHOLE} 1 to 1024"),
    ({"effects": {"targets": {"kv": {"retry": {"attempts": 0}}}}}, f"kv.retry.attempts = 0: {WHOLE} 1 to 100"),
    ({"effects": {"targets": {"kv": {"retry": {"factor": 0.5}}}}}, "factor = 0.5: must be a number from 1 to 100"),
    ({"effects": {"default_breaker": {"failures": 0}}}, f"failures = 0: {WHOLE} 1 to 1000000"),
]


@pytest.mark.parametrize(("data", "problem"), MISTAKES)
def test_a_mistake_is_answered_with_its_source_path_value_and_what_is_allowed(data: Any, problem: str) -> None:
    for layers, source in (((data,), "my.json"), (({}, {}, data), "command-line flag")):
        with pytest.raises(ConfigError) as caught:
            load(*layers, source="my.json")
        (said,) = caught.value.problems
        assert said.startswith(f"{source}: ")
        assert problem in said
        assert said == str(caught.value)
        assert "\n" not in said


@pytest.mark.parametrize("data", [None, [], 1, "x", True])
def test_a_document_that_is_not_an_object_is_refused(data: object) -> None:
    with pytest.raises(ConfigError, match=r"^config\.json: is .*: must be an object$"):
        load(data)


def test_a_key_that_is_no_string_is_refused() -> None:
    overrides: dict[Any, Any] = {"server": {1: 2}, 2: {}}
    with pytest.raises(ConfigError) as caught:
        load({}, {}, overrides)
    assert caught.value.problems == (
        "command-line flag: server has a key that is 1, not a string",
        "command-line flag: the top has a key that is 2, not a string",
    )


def test_a_value_that_json_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"server\.uds = a Python PosixPath: must be a string"):
        load({}, {}, {"server": {"uds": Path("/run/a.sock")}})


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({PORT: "eighty"}, f'ZERVER_SERVER__PORT: server.port = "eighty": {WHOLE} 0 to 65535'),
        ({PORT: "99999"}, f'ZERVER_SERVER__PORT: server.port = "99999": {WHOLE} 0 to 65535'),
        ({PORT: ""}, f'ZERVER_SERVER__PORT: server.port = "": {WHOLE} 0 to 65535'),
        ({PORT: "[" * 100_000}, "ZERVER_SERVER__PORT: server.port = "),
        ({PORT: "1" * 5000}, "ZERVER_SERVER__PORT: server.port = "),
        ({"ZERVER_SERVER__PROT": "1"}, 'ZERVER_SERVER__PROT: server.prot = "1": unknown key, did you mean "port"?'),
        ({"ZERVER_SEVER__PORT": "1"}, 'ZERVER_SEVER__PORT: sever = {...}: unknown key, did you mean "server"?'),
        ({"ZERVER_SERVER__": "1"}, 'ZERVER_SERVER__: server[""] = "1": unknown key'),
        ({"ZERVER_a\n__x": "1"}, 'environment variable "ZERVER_a\\n__x": ["a\\n"] = {...}: unknown key'),
        ({"ZERVER___PORT": "1"}, 'ZERVER___PORT: [""] = {...}: unknown key'),
        ({"ZERVER_SERVER__PORT__X": "1"}, f"ZERVER_SERVER__PORT__X: server.port = {{...}}: {WHOLE} 0 to 65535"),
        ({"ZERVER_LIMITS__DEADLINE": "NaN"}, 'limits.deadline = "NaN": must be a number above 0'),
        ({"ZERVER_LIMITS__DEADLINE": "1e999"}, 'limits.deadline = "1e999": must be a number above 0'),
        ({"ZERVER_OBSERVABILITY__DEBUG": "1"}, 'observability.debug = "1": must be true or false'),
        ({"ZERVER_REACTOR__EFFECTOR_POOL": "8"}, "reactor.effector_pool = 8: must be an object"),
        ({"ZERVER_REACTOR__EFFECTOR_POOL": "{"}, 'reactor.effector_pool = "{": must be an object'),
        ({"ZERVER_DEBUG": "maybe"}, 'ZERVER_DEBUG = "maybe": must be 1 or 0'),
        ({PORT: "1", "ZERVER_server__port": "2"}, "ZERVER_server__port: is the same setting as ZERVER_SERVER__PORT"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(env: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({}, env)
    (said,) = caught.value.problems
    assert said.startswith("environment variable ")
    assert problem in said


def test_all_mistakes_of_all_layers_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"server": {"port": "x", "prot": 1}}, {PORT: "y"}, {"limits": {"deadline": 0}})
    assert len(caught.value.problems) == 4
    assert str(caught.value).startswith("4 problems in the configuration:\n- config.json: server.port = ")


def test_a_mistake_counts_also_where_a_later_layer_replaces_it() -> None:
    with pytest.raises(ConfigError, match=r"^config\.json: server\.port"):
        load({"server": {"port": "x"}}, {PORT: "80"})


# --- the file ---


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", ":1:1: not valid JSON: Expecting value"),
        (b'{\n  "a" 1}', ":2:7: not valid JSON: Expecting ':' delimiter"),
        (b'{"a": 1}\n}', ":2:1: not valid JSON: Extra data"),
        (b'{"a": 01}', ":1:8: not valid JSON: Expecting ',' delimiter"),
        (b'{\n "a": "\xff"}', ":2:8: not valid JSON: not UTF-8"),
        (b'\xef\xbb\xbf{\n "a": "\xff"}', ":2:8: not valid JSON: not UTF-8"),
        (b'{"a": NaN}', ": not valid JSON: NaN is not a JSON number"),
        (b'{"a": 1, "a": 2}', ': not valid JSON: the key "a" is given twice in one object'),
        (b"[" * 100_000, ": not valid JSON: nested too deeply"),
        (b"1" * 5000, ": not valid JSON: Exceeds the limit"),
    ],
)
def test_text_that_is_not_json_is_answered_with_file_line_and_column(text: bytes, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "my.json")
    assert str(caught.value).startswith(f"my.json{problem}")


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse(b'\xef\xbb\xbf{"a": [1]}') == {"a": [1]}


def test_config_json_of_the_current_directory_is_read_and_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(env={}) == Config()
    Path("config.json").write_text('{"server": {"port": 1}}')
    assert load_config(env={}).server.port == 1
    assert load_config(env={PORT: "2"}).server.port == 2
    assert load_config(env={PORT: "2"}, overrides={"server": {"port": 3}}).server.port == 3


def test_a_named_file_is_read_instead_of_config_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("config.json", "a.json", "b.json")):
        Path(name).write_text(json.dumps({"server": {"port": number}}))
    assert load_config("a.json", {"ZERVER_CONFIG": "b.json"}).server.port == 1
    assert load_config(None, {"ZERVER_CONFIG": "b.json"}).server.port == 2


def test_the_environment_of_the_process_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PORT, "4")
    assert load_config().server.port == 4
    assert load_config(env={}).server.port == 8080


def test_a_named_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for name, said in (("none.json", "no such configuration file"), (".", "cannot be read"), ("\0", "cannot be read")):
        for path, env in ((str(tmp_path / name), {}), (None, {"ZERVER_CONFIG": str(tmp_path / name)})):
            with pytest.raises(ConfigError, match=said) as caught:
                load_config(path, env)
            assert str(caught.value).startswith(str(tmp_path))


def test_a_mistake_in_the_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my.json"
    path.write_text('{"server": {"port": "x"}}')
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}: server.port = "):
        load_config(str(path), {})
    path.write_text("{")
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}:1:2: not valid JSON"):
        load_config(str(path), {})


# --- the engine ---


@pytest.mark.parametrize(
    ("enabled", "env", "flag", "engine"),
    [
        (None, {}, None, "reactor"),
        (True, {}, None, "reactor"),
        (False, {}, None, "blocking"),
        (None, {"ZERVER_ENGINE": "blocking"}, None, "blocking"),
        (None, {"ZERVER_ENGINE": "reactor"}, None, "reactor"),
        (False, {"ZERVER_ENGINE": ""}, None, "blocking"),
        (True, {"ZERVER_ENGINE": "blocking"}, None, "blocking"),
        (False, {"ZERVER_ENGINE": "reactor"}, None, "reactor"),
        (None, {"ZERVER_REACTOR__ENABLED": "false", "ZERVER_ENGINE": "reactor"}, None, "reactor"),
        (True, {"ZERVER_REACTOR__ENABLED": "false"}, None, "blocking"),
        (True, {}, "blocking", "blocking"),
        (True, {"ZERVER_ENGINE": "reactor"}, "blocking", "blocking"),
        (False, {"ZERVER_ENGINE": "blocking"}, "reactor", "reactor"),
    ],
)
def test_the_engine_is_that_of_the_flag_then_of_the_environment_then_of_the_file(
    enabled: bool | None, env: dict[str, str], flag: str | None, engine: str
) -> None:
    flags = {} if flag is None else {"reactor": {"enabled": engine_enabled(flag, "--engine")}}
    assert load({"reactor": {"enabled": enabled}}, env, flags).reactor.engine == engine


@pytest.mark.parametrize(
    ("admin", "address"),
    [
        (None, None),
        ("off", None),
        ("127.0.0.1:9180", ("127.0.0.1", 9180)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_the_admin_address_is_a_host_and_a_port_or_off(admin: str | None, address: tuple[str, int] | None) -> None:
    assert admin_address(load({"observability": {"admin": admin}}).observability.admin) == address


def test_an_engine_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        load({}, {"ZERVER_ENGINE": "turbo"})
    said = 'environment variable ZERVER_ENGINE = "turbo": unknown engine. Allowed: reactor, blocking'
    assert str(caught.value) == said
    with pytest.raises(ConfigError, match=r'^--engine = "Blocking": unknown engine. Allowed: reactor, blocking$'):
        engine_enabled("Blocking", "--engine")


# --- whatever is given ---

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def settings_of(kind: Any, wrong: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Any]:
    """Values that a setting of this type takes; with ``wrong``, in any place of them also one of those."""
    found: list[st.SearchStrategy[Any]] = []
    nullable = type(None) in get_args(kind)
    options = [one for one in get_args(kind) if one is not type(None)] if nullable else [kind]
    for option in options:
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            fields = {one.name: settings_of(one.type, wrong) for one in msgspec.structs.fields(option)}
            if option is EffectsConfig:
                fields["cache"] = st.just("memory://")
            elif option is ObservabilityConfig:
                fields["admin"] = st.sampled_from(["off", "127.0.0.1:9180", None])
            found.append(st.fixed_dictionaries({}, optional=fields))
        elif get_origin(option) is dict:
            targets = get_args(option)[1] is TargetConfig
            names = st.sampled_from(["kv", "sql:default", "http:a:80", "call:a.b"]) if targets else st.text(max_size=8)
            found.append(st.dictionaries(names, settings_of(get_args(option)[1], wrong), max_size=3))
        else:
            found.append(leaf(msgspec.inspect.type_info(option)))
    if nullable:
        found.append(st.none())
    # One in five, so that most of a document is right and the checks behind the first are reached.
    return st.one_of(*found) if wrong is None else st.one_of(*found * 4, wrong)


def leaf(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case msgspec.inspect.IntType(ge=low, le=high):
            return st.integers(low, high)
        case msgspec.inspect.FloatType(gt=None, ge=low, le=high):
            return st.floats(low, high)
        case msgspec.inspect.FloatType(gt=low, le=high):
            return st.floats(low, high, exclude_min=True)
        case msgspec.inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.ListType():
            return st.lists(st.sampled_from(["10.0.0.0/8", "::1", "unix"]), max_size=2)
        case _:
            return st.just("sqlite:///a.db")


@given(settings_of(Config))
@settings(max_examples=25, deadline=None)
def test_what_is_allowed_loads_alike_from_each_layer_and_can_be_written_down_and_loaded_again(data: Any) -> None:
    config = load(data)
    assert load({}, {}, data) == config
    env = {f"ZERVER_{one}__{key}": json.dumps(value) for one, part in data.items() for key, value in part.items()}
    assert load({}, env) == config
    assert load(msgspec.to_builtins(config)) == config
    for target in config.effects.targets:
        assert (config.effects.policy(target).timeout or 0) > 0


def refusal(data: object, env: dict[str, str], overrides: Any) -> ConfigError | None:
    """Anything but a Config or a ConfigError passes through and fails the test."""
    try:
        load(data, env, overrides)
    except ConfigError as error:
        return error
    return None


def check_words(error: ConfigError | None) -> None:
    if error is not None:
        assert error.problems
        assert all(line.isprintable() for line in error.problems), "each problem is one line, and can be printed"


@given(ANY_JSON)
@settings(max_examples=30, deadline=None)
@example("\ud800")
@example({"server": {"port": 10**5000}})
@example({"server": {"port": "\ud800"}})
def test_any_json_document_loads_or_raises_config_error(data: object) -> None:
    check_words(refusal(data, {}, {}))


WRONG = ANY_JSON | st.sampled_from([10**400, float("nan"), "redis://a:b@c", "\ud800", "\n", {"": {}}, {"mode": 1}])


@given(settings_of(Config, WRONG), st.none() | settings_of(Config, WRONG))
@settings(max_examples=30, deadline=None)
def test_any_document_and_flags_near_the_settings_load_or_raise_config_error(data: object, overrides: object) -> None:
    check_words(refusal(data, {}, overrides))


NAMES = st.sampled_from([path.upper().replace(".", "__") for path, _, _ in LEAVES]) | st.text(max_size=12)
VALUES = st.text(max_size=12) | ANY_JSON.map(json.dumps)


@given(st.dictionaries(NAMES.map("ZERVER_".__add__), VALUES, max_size=3))
@settings(max_examples=30, deadline=None)
def test_any_environment_loads_or_raises_config_error(env: dict[str, str]) -> None:
    check_words(refusal({}, env, {}))


@given(st.binary(max_size=40) | ANY_JSON.map(lambda data: json.dumps(data).encode()))
@settings(max_examples=30, deadline=None)
def test_any_bytes_are_json_or_raise_config_error(text: bytes) -> None:
    with contextlib.suppress(ConfigError):
        parse(text)


# --- the page ---


def rows() -> dict[str, str]:
    """Setting and default of each row of a settings table on the page."""
    found = re.findall(r"^\| `([a-z_.]+)` \| `([^`]*)` \|", DOC, re.MULTILINE)
    assert len({name for name, _ in found}) == len(found), "each setting has one row"
    return dict(found)


def test_the_page_names_every_setting_with_its_default_and_no_other() -> None:
    documented = {name: json.loads(default) for name, default in rows().items()}
    named = (*LEAVES, *leaves(TargetConfig), *leaves(RetryConfig, ("retry",)))
    assert documented == {path: default for path, default, _ in named}


def test_the_page_gives_the_bounds_of_every_setting() -> None:
    allowed = dict(re.findall(r"^\| `([a-z_.]+)` \| `[^`]*` \| ([^|]+) \|", DOC, re.MULTILINE))
    for path, _, kind in (*LEAVES, *leaves(TargetConfig), *leaves(RetryConfig, ("retry",))):
        kinds = get_args(kind) if type(None) in get_args(kind) else (kind,)
        for bounds in (msgspec.inspect.type_info(one) for one in kinds):
            if isinstance(bounds, msgspec.inspect.IntType | msgspec.inspect.FloatType):
                low = bounds.ge if bounds.ge is not None else bounds.gt
                high = "2^40" if bounds.le == 2**40 else str(bounds.le)
                assert re.search(rf"\b{low}\b.* {re.escape(high)}\b", allowed[path]), path


def test_the_page_tells_what_a_targets_breaker_and_bulkhead_hold() -> None:
    for name, kind in (("breaker", BreakerConfig), ("bulkhead", BulkheadConfig)):
        (meaning,) = re.findall(rf"^\| `{name}` \|.*\| ([^|]+) \|$", DOC, re.MULTILINE)
        assert all(f"`{one.name}`" in meaning for one in msgspec.structs.fields(kind))


def test_the_examples_on_the_page_load() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", DOC, re.DOTALL)
    assert load(parse(block.encode())) != Config()
    variables = re.findall(r"^\| `(ZERVER_\w+__\w+)=([^`]*)` \|", DOC, re.MULTILINE)
    assert len(variables) == 4
    assert load({}, dict(variables)) != Config()


def test_the_message_on_the_page_is_the_one_that_is_given() -> None:
    (block,) = re.findall(r"```\n(2 problems.*?)\n```", DOC, re.DOTALL)
    with pytest.raises(ConfigError) as caught:
        load({"server": {"prot": 9000}}, {"ZERVER_LIMITS__DEADLINE": "0"})
    assert str(caught.value) == block
