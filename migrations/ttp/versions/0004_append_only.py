"""Evidence is append-only in the database itself (docs/protocols/services.md)."""

from migrations.append_only import protect

revision = "0004"
down_revision = "0003"

TABLES = (
    "entries",
    "exchanges",
    "feed",
    "checkpoints",
    "bindings",
    "bound_keys",
    "revocations",
    "tiles",
    "cosignatures",
    "stamps",
)


def upgrade() -> None:
    protect(TABLES)
