"""The trusted third party: a web service that keeps escrow, decides exchanges and runs the ledger."""
