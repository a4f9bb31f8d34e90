"""The rows of the table that are asked over sockets, in one app: each below a path of its own."""

from __future__ import annotations

from conformance_table import TABLE
from engine_conformance import Place
from scripted import Own

from zerver import App

__all__ = ["ROWS", "app"]

ROWS = {f"/{number}": row for number, row in enumerate(TABLE) if row.sockets}
"""By the path in front of theirs."""

app = App()
app.effector("own", Own())
for _prefix, _row in ROWS.items():
    _row.declare(Place(app, _prefix))
