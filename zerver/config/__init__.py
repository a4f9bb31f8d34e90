"""The configuration: ``config.json`` < environment ``ZERVER_<SECTION>__<KEY>`` < command-line flags.

``settings`` says what can be set, ``rules`` what a type cannot say, ``merge`` combines the three and is pure, as are
``document`` (JSON) and ``problem`` (messages); only ``file`` reads anything. The user's page is
``docs/reference/configuration.md``.
"""

from zerver.config.document import parse
from zerver.config.file import load_config
from zerver.config.merge import load
from zerver.config.problem import ConfigError
from zerver.config.rules import engine_enabled, sqlite_path
from zerver.config.settings import (
    BreakerConfig,
    BulkheadConfig,
    ComputePoolConfig,
    Config,
    ContinuationPoolConfig,
    EffectsConfig,
    FilesConfig,
    HttpConfig,
    LimitsConfig,
    ObservabilityConfig,
    Policy,
    PoolConfig,
    PostgresConfig,
    ReactorConfig,
    RetryConfig,
    SchedulersConfig,
    ServerConfig,
    SqliteConfig,
    TargetConfig,
    TimeoutsConfig,
    TraceConfig,
)

__all__ = [
    "BreakerConfig",
    "BulkheadConfig",
    "ComputePoolConfig",
    "Config",
    "ConfigError",
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
    "engine_enabled",
    "load",
    "load_config",
    "parse",
    "sqlite_path",
]
