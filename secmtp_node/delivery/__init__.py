"""Mailboxes and the reports that senders get."""
