"""For users' tests: a whole agent in the test's own process.

    def test_finds_the_printer(catalog):
        catalog.register("printer", port=631, tags=["laser"], ttl="10s")
        ...                                    # your code, pointed at catalog.url or catalog.dns
        catalog.clock.advance(11)              # the time to live is over: critical

`catalog` is a pytest fixture (the package brings the plugin); `with Catalog() as catalog` is the
same without pytest. Real HTTP and DNS on ports of its own, so tests may run in parallel.
"""

from callboard.testing.inprocess import Catalog

__all__ = ["Catalog"]
