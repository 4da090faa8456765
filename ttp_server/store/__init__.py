"""The TTP's database: SQLAlchemy Core, one synchronous path for SQLite and PostgreSQL."""
