"""A third party's plugins: a store in a file with settings of its own, and what goes wrong around it.

They are at the top of a module, as a plugin's are, so that other processes can open their stores.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pydantic import SecretStr

from redicts.backends.sqlite import SqliteBackend
from redicts.core.backend import Backend, BackendPlugin, Capabilities
from redicts.core.listener import Listener
from redicts.core.minitransaction import Outcome, Put, Transaction
from redicts.core.plugin_settings import BackendSettings
from redicts.errors import StoreError


class ShopSettings(BackendSettings):
    """Where the file is, under a name from which nobody can tell that it is one."""

    place: str
    password: SecretStr = SecretStr("")
    api_token: str = ""
    address: str = ""


class Shop(Backend):
    """A file of SQLite that declares what it is told to declare."""

    def __init__(self, settings: ShopSettings, **declared: bool) -> None:
        self.settings: Final = settings
        self.store: Final = SqliteBackend(settings.place)
        self.declared: Final = declared

    @property
    def capabilities(self) -> Capabilities:
        return replace(self.store.capabilities, **self.declared)

    def execute(self, transaction: Transaction, /) -> Outcome:
        return self.store.execute(transaction)

    def listen(self, name: str, /) -> Listener:
        return self.store.listen(name)

    def close(self) -> None:
        self.store.close()


class Telltale(Shop):
    """One that tells all its secrets when something goes wrong."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if any(isinstance(write, Put) for write in transaction.writes):
            told = [self.settings.password.get_secret_value(), self.settings.api_token, self.settings.address]
            raise StoreError(f"cannot log in with {' and '.join(told)}")
        return super().execute(transaction)


def open_shop(settings: ShopSettings, _database: int) -> Shop:
    """Open a shop that declares what it can do."""
    return Shop(settings)


def open_modest(settings: ShopSettings, _database: int) -> Shop:
    """Open one that declares neither TTLs, nor processes, nor durability, and has it all."""
    return Shop(settings, ttl=False, processes=False, durable=False)


def open_telltale(settings: ShopSettings, _database: int) -> Shop:
    """Open one that tells its secrets."""
    return Telltale(settings)


shop: Final = BackendPlugin("shop", ShopSettings, open_shop, contract=1)
modest: Final = BackendPlugin("modest", ShopSettings, open_modest, contract=1)
telltale: Final = BackendPlugin("telltale", ShopSettings, open_telltale, contract=1)
