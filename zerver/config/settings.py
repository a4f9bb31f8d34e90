"""Every setting, with its type, bounds and default. Times are in seconds, sizes in bytes.

Only settings that this version reads exist here. ``load`` checks the bounds; a Struct built in code is not checked.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

__all__ = [
    "DEFAULT_DATABASES",
    "BreakerConfig",
    "BulkheadConfig",
    "ComputePoolConfig",
    "Config",
    "ContinuationPoolConfig",
    "EffectsConfig",
    "FilesConfig",
    "HttpConfig",
    "LimitsConfig",
    "ObservabilityConfig",
    "Policy",
    "PoolConfig",
    "PostgresConfig",
    "ReactorConfig",
    "RetryConfig",
    "SchedulersConfig",
    "ServerConfig",
    "SqliteConfig",
    "TargetConfig",
    "TimeoutsConfig",
    "TraceConfig",
]

Port = Annotated[int, Meta(ge=0, le=65_535)]
Threads = Annotated[int, Meta(ge=1, le=1_024)]
Processes = Annotated[int, Meta(ge=1, le=1_024)]
Attempts = Annotated[int, Meta(ge=1, le=100)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
CountOrZero = Annotated[int, Meta(ge=0, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=0, le=2**40)]
Size = Annotated[int, Meta(ge=16, le=2**40)]
# A day is past any sensible time-out, and below what threading and SQLite (int32 milliseconds) are able to wait.
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SecondsOrZero = Annotated[float, Meta(ge=0, le=86_400)]
Milliseconds = Annotated[float, Meta(gt=0, le=60_000)]
Factor = Annotated[float, Meta(ge=1, le=100)]
_NO_CONTROLS = r"\A[^\x00-\x1f\x7f\ud800-\udfff]+\Z"
Text = Annotated[str, Meta(min_length=1, max_length=4_096, pattern=_NO_CONTROLS)]
# unix(7): sun_path holds 108 bytes, the closing NUL among them.
SocketPath = Annotated[str, Meta(min_length=1, max_length=107, pattern=_NO_CONTROLS)]


class ServerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the server listens and how it stops.

    ``port`` 0 takes any free one. ``uds``, the path of a Unix socket, wins over host and port. ``grace`` is how many
    seconds requests in flight may take to finish at a stop.

    ``tls_cert``, a PEM file, has clients come through TLS; ``tls_key`` is that of its key, unless that is in it, too.
    ``trusted_proxies``: addresses, networks, or ``unix``, whose ``X-Forwarded-For`` is believed.
    """

    host: Text = "127.0.0.1"
    port: Port = 8080
    uds: SocketPath | None = None
    grace: SecondsOrZero = 10.0
    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"
    log_format: Literal["line", "json"] = "line"
    tls_cert: Text | None = None
    tls_key: Text | None = None
    trusted_proxies: list[Text] = []


class SchedulersConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The processes of the reactor engine under ``zerver serve``. ``performance`` of them accept and answer requests;
    None is as many as there are CPUs that may be used."""

    performance: Processes | None = None


class PoolConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bounded thread pool: ``size`` threads, and ``queue`` jobs that may wait for one. More is refused (503)."""

    size: Threads = 16
    queue: CountOrZero = 256


class ContinuationPoolConfig(PoolConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What runs steps.

    In the reactor engine ``queue`` requests may wait for their turn on the loop, and as many steps for a thread. A step
    that keeps the loop for more than ``step_budget_ms`` (milliseconds) is moved to one of the ``size`` threads
    (``mode`` adaptive); or every step runs there (pool), or none does (inline).

    In the blocking engine a request keeps its thread while its effects wait, so ``size`` bounds requests in flight.

    It is 32 on any machine: threads that wait cost next to nothing, and threads that compute share one GIL however
    many cores there are, so more of them only delay each other.
    """

    size: Threads = 32
    queue: CountOrZero = 1024
    mode: Literal["adaptive", "inline", "pool"] = "adaptive"
    step_budget_ms: Milliseconds = 10.0


class ComputePoolConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The worker processes of ``compute`` effects: ``size`` of them, by default half as many as there are CPUs and at
    least one; and ``queue`` tasks that may wait for one. More is refused (429)."""

    size: Threads | None = None
    queue: CountOrZero = 256


class ReactorConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The engine and its pools.

    ``enabled`` false is the blocking engine; true and None, the default, are the reactor engine. The effector pool runs
    blocking calls.
    """

    enabled: bool | None = None
    continuation_pool: ContinuationPoolConfig = ContinuationPoolConfig()
    effector_pool: PoolConfig = PoolConfig()
    compute_pool: ComputePoolConfig = ComputePoolConfig()

    @property
    def engine(self) -> Literal["reactor", "blocking"]:
        """The engine that this means."""
        return "blocking" if self.enabled is False else "reactor"


class LimitsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one request may use.

    ``body_bytes``: more is 413. ``deadline``: seconds until 504. ``retry_budget``: retries over all effects of the
    request.

    The others are limits of a connection, where the reactor engine reads HTTP itself: bytes and counts of what makes up
    a request (414, 431, 413), bytes of pipelined requests that may wait for their turn, and seconds: for a head, for a
    body (beside one second for each ``body_rate`` bytes), without a request, and for a client to read its answer.
    """

    body_bytes: Bytes = 1024 * 1024
    deadline: Seconds = 30.0
    retry_budget: CountOrZero = 10
    request_line_bytes: Size = 8 * 1024
    header_count: Count = 100
    header_bytes: Size = 32 * 1024
    chunk_extension_bytes: Bytes = 4 * 1024
    trailer_count: CountOrZero = 32
    trailer_bytes: Bytes = 8 * 1024
    pipeline_bytes: Size = 64 * 1024
    head_timeout: Seconds = 10.0
    body_timeout: Seconds = 30.0
    body_rate: Size = 1024
    keep_alive: Seconds = 75.0
    write_timeout: Seconds = 30.0


class SqliteConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each SQLite database: connections that read, beside the one that writes; seconds to wait for a lock."""

    readers: Threads = 4
    busy_timeout: SecondsOrZero = 5.0


class PostgresConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each PostgreSQL database: the most connections of one process; whether statements stay prepared on them."""

    size: Threads = 10
    prepared: bool = True


class HttpConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP client: the largest response body (bytes) that an effect accepts; and whether it uses the proxies that
    the environment names (``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``)."""

    max_body_bytes: Bytes = 8 * 1024 * 1024
    proxies: bool = False


class FilesConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The folder of ``file`` effects, which nothing leads out of; and the largest file (bytes)."""

    root: Text = "var/files"
    max_bytes: Bytes = 8 * 1024 * 1024


class TimeoutsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds per attempt, by effect family, where neither the effect nor its target says otherwise."""

    http: Seconds = 1.0
    sql: Seconds = 0.3
    kv: Seconds = 0.3
    cache: Seconds = 0.05
    file: Seconds = 5.0
    call: Seconds = 5.0
    actor: Seconds = 5.0


class RetryConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``attempts`` in total, the first included. The wait before retry n (from 1) is drawn evenly from 0 to
    ``min(cap, base * factor ** (n - 1))`` seconds."""

    attempts: Attempts = 1
    base: SecondsOrZero = 0.01
    factor: Factor = 2.0
    cap: SecondsOrZero = 5.0


class BreakerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Opens after ``failures`` in ``window`` seconds; after ``cooldown`` seconds ``probes`` attempts may try."""

    failures: Count = 5
    window: Seconds = 10.0
    cooldown: Seconds = 5.0
    probes: Count = 1


class BulkheadConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attempts in flight to one target: ``in_flight`` in all, ``per_request`` of one request.

    ``queue`` more may wait; past that the effect fails as OVERLOADED.
    """

    in_flight: Count = 64
    per_request: Count = 16
    queue: CountOrZero = 256


class TargetConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one target changes. None: the family's time-out, no retry, ``default_breaker``, ``default_bulkhead``."""

    timeout: Seconds | None = None
    retry: RetryConfig | None = None
    breaker: BreakerConfig | None = None
    bulkhead: BulkheadConfig | None = None


class Policy(Struct, frozen=True, kw_only=True):
    """What holds for one target. ``timeout`` None: its family has none. ``retry`` None: one attempt."""

    timeout: float | None
    retry: RetryConfig | None
    breaker: BreakerConfig
    bulkhead: BulkheadConfig


DEFAULT_DATABASES = MappingProxyType({"default": "sqlite:///var/zerver.db"})


class EffectsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The stores behind the effects, and the policy of each target. ``cache_bytes`` bounds a cache in memory.

    ``databases`` (name to URL) always has ``default``. ``targets`` is keyed by ``http:HOST:PORT``, ``sql:DATABASE``,
    ``kv``, ``cache``, ``file``, ``call:MODULE.FUNCTION``,
    ``compute:MODULE.FUNCTION`` or ``actor:NAME``. What a target's ``breaker`` or
    ``bulkhead`` leaves out, ``load`` fills in from ``default_breaker`` and ``default_bulkhead``.
    """

    databases: dict[str, Text] = field(default_factory=lambda: dict(DEFAULT_DATABASES))
    kv: Text = "sqlite:///var/kv.db"
    cache: Text = "memory://"
    cache_bytes: Bytes = 64 * 1024 * 1024
    sqlite: SqliteConfig = SqliteConfig()
    postgres: PostgresConfig = PostgresConfig()
    http: HttpConfig = HttpConfig()
    files: FilesConfig = FilesConfig()
    timeouts: TimeoutsConfig = TimeoutsConfig()
    default_breaker: BreakerConfig = BreakerConfig()
    default_bulkhead: BulkheadConfig = BulkheadConfig()
    targets: dict[str, TargetConfig] = field(default_factory=dict)

    def policy(self, target: str) -> Policy:
        """What holds for ``target``, whether ``targets`` lists it or not."""
        own = self.targets.get(target, TargetConfig())
        family: float | None = getattr(self.timeouts, target.partition(":")[0], None)
        return Policy(
            timeout=family if own.timeout is None else own.timeout,
            retry=own.retry,
            breaker=own.breaker or self.default_breaker,
            bulkhead=own.bulkhead or self.default_bulkhead,
        )


class TraceConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests' traces are kept, and where.

    Those that failed by the server's fault are kept, and slow ones: that took longer than ``slow_ms`` (milliseconds),
    or, with None, than 999 in 1000 of their route. Beside them one in ``sample`` (0: none), and what a client asks for
    with ``x-zerver-trace: 1``, from an address or network in ``trusted`` (``unix``: from a Unix socket).

    ``enabled`` None is on under ``zerver serve`` and ``zerver dev``, and off elsewhere. ``store`` is a SQLite file, of
    at most ``max_bytes``, whose traces are let go after ``max_days``. ``bodies``: whether bodies and what drivers gave
    are recorded. ``redact``: names of headers, parameters and fields whose values are not, beside the usual secrets.
    ``otlp``: whether kept traces are exported by OTLP; None is as the ``OTEL_*`` variables of the environment say.
    """

    enabled: bool | None = None
    store: Text = "sqlite:///var/traces.db"
    max_bytes: Annotated[int, Meta(ge=2**20, le=2**40)] = 256 * 1024 * 1024
    max_days: Annotated[float, Meta(gt=0, le=3_650)] = 7.0
    sample: CountOrZero = 0
    slow_ms: Annotated[float, Meta(gt=0, le=86_400_000)] | None = None
    trusted: list[Text] = []
    bodies: bool = True
    redact: list[Text] = []
    otlp: bool | None = None


class ObservabilityConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``debug`` shows tracebacks to clients: never in production. ``access_log``: a line of log for each request.
    ``health`` answers ``/healthz`` and ``/readyz`` where the app has no such route.

    ``admin``: ``HOST:PORT`` where metrics are served, and what else is for those who run the app; ``off`` is nowhere.
    None is ``off``, but under ``zerver dev``."""

    debug: bool = False
    access_log: bool = True
    health: bool = False
    admin: Text | None = None


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set, by section."""

    server: ServerConfig = ServerConfig()
    schedulers: SchedulersConfig = SchedulersConfig()
    reactor: ReactorConfig = ReactorConfig()
    limits: LimitsConfig = LimitsConfig()
    effects: EffectsConfig = EffectsConfig()
    trace: TraceConfig = TraceConfig()
    observability: ObservabilityConfig = ObservabilityConfig()
