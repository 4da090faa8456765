"""What programs need that is no protocol: settings, database, log, files. Nothing here knows what a program does."""
