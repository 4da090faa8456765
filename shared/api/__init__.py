"""The HTTP API and the SMTP extension, defined once for both ends."""
