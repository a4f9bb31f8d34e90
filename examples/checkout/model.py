"""Customers, their carts and their orders: what is stored, and the statements that do it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = [
    "ADD_LINE",
    "CUSTOMER",
    "EARLIER",
    "EMPTY_CART",
    "LINES",
    "PLACE",
    "SCHEMA",
    "SEED",
    "Charge",
    "Customer",
    "Line",
    "Order",
]


class Customer(msgspec.Struct):
    id: int
    name: str


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of a cart: in the table, and in what ``PUT /cart`` takes."""

    sku: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,40}$")]
    quantity: Annotated[int, Meta(ge=1, le=100)]


class Charge(msgspec.Struct):
    """What the payment service answers."""

    id: str
    cents: int


class Order(msgspec.Struct):
    """An order that is paid for."""

    number: int
    cents: int
    charge: str
    """The id of the charge at the payment service."""


SCHEMA = (
    "create table if not exists customer (id integer primary key, name text not null, api_key text not null unique)",
    """
    create table if not exists cart_line (
        customer integer not null references customer, sku text not null, quantity integer not null,
        primary key (customer, sku)
    )
    """,
    """
    create table if not exists placed_order (
        number integer primary key autoincrement,
        customer integer not null references customer,
        key text not null unique,
        cents integer not null,
        charge text not null
    )
    """,
)

SEED = "insert into customer (id, name, api_key) values (1, 'Ada', 'ada-key') on conflict do nothing"

CUSTOMER = "select id, name from customer where api_key = :api_key"

LINES = "select sku, quantity from cart_line where customer = :customer order by sku"

EMPTY_CART = "delete from cart_line where customer = :customer"

ADD_LINE = """
insert into cart_line (customer, sku, quantity) values (:customer, :sku, :quantity)
on conflict (customer, sku) do update set quantity = quantity + excluded.quantity
"""

EARLIER = "select number, cents, charge from placed_order where key = :key"

# Storing an order again gives the first row back: two clients may be at it with the same key.
PLACE = """
insert into placed_order (customer, key, cents, charge) values (:customer, :key, :cents, :charge)
on conflict (key) do update set key = excluded.key
returning number, cents, charge
"""
