"""The node's database (SQLAlchemy Core) and the files beside it."""
