"""How dates and numbers are written in the pages, by language."""
