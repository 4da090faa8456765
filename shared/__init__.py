"""The SecMTP protocol itself: pure functions over values.

Nothing here opens a file or a socket, reads a clock, draws randomness at import or writes a log.
"""
