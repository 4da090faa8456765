"""SMTP in and out: listeners, envelopes, messages as octets (docs/protocols/smtp.md)."""
