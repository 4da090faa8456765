"""Keepers of the TTP's private keys."""
