"""Keepers of secrets: passwords, users' keys, the node's own keys, short secrets at rest."""
