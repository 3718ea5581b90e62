"""The tables, one file per room that owns them."""
