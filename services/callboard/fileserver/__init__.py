"""The TLS static server: a folder as an allow-list, and routes to programs found in the catalog."""
