"""Show results: plots, tables for the terminal, reports."""
