"""Mail users, their keys and bindings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from secmtp_node.ports.values import KeyUse, OwnBinding, User, UserKey, Verifier
from secmtp_node.store import rows
from secmtp_node.store import tables as t
from shared.crypto.keys import HpkePublicKey
from shared.errors import Conflict


class SqlUsers:
    """Users of this node."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, user: User, keys: Collection[UserKey]) -> None:
        """Add a user with keys. Raises Conflict when the address is there."""
        if self.find(user.address) is not None:
            raise Conflict(f"{user.address} is a user already")
        verifier = {name: getattr(user.verifier, name) for name in user.verifier.__slots__}
        values = {"address": user.address, "delegated": user.delegated, "created": user.created, **verifier}
        self._connection.execute(t.users.insert().values(values))
        for key in keys:
            self._connection.execute(t.user_keys.insert().values(_key_values(key)))

    def find(self, address: str) -> User | None:
        """Return a user."""
        row = self._connection.execute(select(t.users).where(t.users.c.address == address)).mappings().first()
        if row is None:
            return None
        verifier = Verifier(row["salt"], row["iterations"], row["stored_key"], row["server_key"])
        return User(row["address"], verifier, row["delegated"], row["created"])

    def addresses(self) -> Sequence[str]:
        """Return all addresses, sorted."""
        return list(self._connection.scalars(select(t.users.c.address).order_by(t.users.c.address)))

    def keys(self, address: str) -> Sequence[UserKey]:
        """Return the live keys of a user, one for each use."""
        query = select(t.user_keys).where(t.user_keys.c.address == address).order_by(t.user_keys.c.use)
        return [_key(row) for row in self._connection.execute(query).mappings()]

    def renew(self, key: UserKey) -> None:
        """Replace the certificate of a live key."""
        where = (t.user_keys.c.address == key.address, t.user_keys.c.use == key.use.value)
        self._connection.execute(t.user_keys.update().where(*where).values(certificate=key.certificate))

    def binding(self, address: str) -> OwnBinding | None:
        """Return the current binding of a user."""
        row = self._connection.execute(select(t.bindings).where(t.bindings.c.address == address)).mappings().first()
        return None if row is None else OwnBinding(**row)

    def set_binding(self, binding: OwnBinding) -> None:
        """Keep a binding as the current one."""
        values = {name: getattr(binding, name) for name in binding.__slots__}
        rows.upsert(self._connection, t.bindings, values, ("address",))


def _key_values(key: UserKey) -> dict[str, Any]:
    values = {name: getattr(key, name) for name in key.__slots__ if name != "public"}
    kind, public = (None, None) if key.public is None else (key.public.kind, key.public.raw)
    return {**values, "use": key.use.value, "kind": kind, "public": public}


def _key(row: RowMapping) -> UserKey:
    return UserKey(
        address=row["address"],
        use=KeyUse(row["use"]),
        version=row["version"],
        key_id=row["key_id"],
        public=None if row["kind"] is None else HpkePublicKey(row["kind"], row["public"]),
        certificate=row["certificate"],
        by_login=row["by_login"],
        by_node=row["by_node"],
    )
