"""The verbs of `callboard` that speak with an agent, and `agent` itself.

Each module has `run(argv, environ) -> exit code`; outputs, texts and exit codes are Consul's, which
scripts parse. They use http.client by way of `callboard.client.transport`: a verb is a process of
its own, and is done in a tenth of a second. No verb reads the catalog's files.
"""
