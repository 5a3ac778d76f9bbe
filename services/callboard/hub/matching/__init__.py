"""Who gets what: topics, the expressions that name them, and an index of who asked. Pure."""
