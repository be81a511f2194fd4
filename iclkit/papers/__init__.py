"""One module per paper, named as its chapter."""
