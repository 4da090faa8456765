"""The TTP's use cases, one a file. They know no framework, database, file or clock."""
