"""Octets on the wire: canonical JSON, strict base64url, and the labelled bytes that are hashed."""
