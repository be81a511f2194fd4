"""The rendered book: its pages, downloads, checks and prints, made from the runs and the ledger."""
