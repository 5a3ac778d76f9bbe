"""Where `serve` meets FastAPI: imported only by who builds an application, since it is slow."""
