"""What processes an app's settings mean, and what each of them has for itself."""

from __future__ import annotations

from collections.abc import Iterator

from ..config import Config
from ..config.rules import is_redis, sql_store
from ..site import Site

__all__ = ["deployment"]


def deployment(site: Site, config: Config, schedulers: int) -> list[str]:
    """Sentences, each of which stands by itself. ``schedulers``: how many the settings mean on this machine."""
    return list(_blocking(site, config) if config.reactor.engine == "blocking" else _node(site, config, schedulers))


def _blocking(site: Site, config: Config) -> Iterator[str]:
    yield (
        "the blocking engine serves from one process, without a Node. Thread pools, circuit breakers and bulkheads "
        "are counted in each process: a second one has its own."
    )
    yield from _without_node(site, config, "a second process")


def _node(site: Site, config: Config, schedulers: int) -> Iterator[str]:
    named = config.schedulers.performance is not None
    yield (
        f"'zerver serve' forks {f'{schedulers} scheduler(s)' if named else 'a scheduler for each CPU'} from a Node. "
        "Each runs the app and its lifespan, and counts thread pools, circuit breakers and bulkheads by itself. Under "
        "another ASGI server the app runs in that one process, without a Node."
    )
    yield from _without_node(site, config, "under another ASGI server, each process")
    if schedulers > 1:
        if site.effectors:
            kinds = ", ".join(sorted(site.effectors))
            yield (
                f"app.effector: each of the {schedulers} schedulers has its own driver of {kinds}. What it keeps in "
                "memory, one has and the others have not; keep it in kv, sql, cache or an actor."
            )
        for name, url in config.effects.databases.items():
            if sql_store(url) == "postgres":
                size = config.effects.postgres.size
                yield (
                    f"database {name}: each of the {schedulers} schedulers makes up to {size} connections "
                    f"(effects.postgres.size), so {size * schedulers} in all, and twice as many during a reload; "
                    "max_connections of the server has to allow that."
                )


def _without_node(site: Site, config: Config, who: str) -> Iterator[str]:
    if not is_redis(config.effects.cache) and "cache" not in site.effectors:
        yield (
            f"cache: it is in memory; {who} has its own, and one may have what another has not. "
            "A redis:// URL as effects.cache makes it one for all."
        )
    if site.actors:
        names = ", ".join(sorted(site.actors))
        yield f"app.actor: {who} has an actor of its own for each of {names}."
