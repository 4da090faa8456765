"""The node's use cases, one a file. They know no framework, database, socket, file or clock."""
