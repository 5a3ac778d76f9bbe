"""The stack that the integration suite runs on: one per kind, given back whole by each test.

A test takes `stack`, and may hurt it as it likes; afterwards everything is healed, started and
ready again, or the next test gets a new one. A test that wants a stack of its own, with small
disks or movable clocks, calls `fresh(Plan(...))`. `@pytest.mark.only("containers")` is for facts
about containers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from tests.harness.capabilities import has, require
from tests.harness.compose_driver import ComposeStack
from tests.harness.process_driver import ProcessStack
from tests.harness.routed import Place
from tests.harness.secured import Farm
from tests.harness.stack import NAMES, Plan, Stack

KINDS = ("containers", "processes")

Fresh = Callable[[Plan], Stack]

FAILED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker of this suite."""
    config.addinivalue_line("markers", "only(kind): for one kind of stack")


def pytest_report_header(config: pytest.Config) -> str:
    """Say what the suite runs on."""
    return f"integration suite on: {', '.join(kinds(config))}"


def kinds(config: pytest.Config) -> tuple[str, ...]:
    """Return the kinds of stack that this run uses."""
    chosen = config.getoption("--stack")
    if chosen == "both":
        return KINDS if has("engine") else ("processes",)
    if chosen == "auto":
        return ("containers",) if has("engine") else ("processes",)
    return (chosen,)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each kind of stack."""
    if "stack_kind" not in metafunc.fixturenames:
        return
    chosen = kinds(metafunc.config)
    if only := metafunc.definition.get_closest_marker("only"):
        chosen = tuple(only.args)
    metafunc.parametrize("stack_kind", chosen, indirect=True, scope="session")


@pytest.fixture(scope="session")
def stack_kind(request: pytest.FixtureRequest) -> str:
    """`containers` or `processes`."""
    kind = str(request.param)
    require("engine" if kind == "containers" else "linux")
    return kind


class Keeper:
    """Keeps one stack alive over many tests."""

    def __init__(self, kind: str) -> None:
        """Start nothing yet."""
        self._kind = kind
        self.stack: Stack | None = None

    def take(self) -> Stack:
        """Return the running stack, a new one if there is none."""
        if self.stack is None:
            made = make(self._kind)
            try:
                made.up()
            except BaseException:
                made.down()
                raise
            self.stack = made
        return self.stack

    def restore(self) -> None:
        """Bring everything back, or give the stack up."""
        if self.stack is None:
            return
        try:
            self.stack.heal()
            self.stack.start(*NAMES)
            self.stack.wait_ready()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Stop the stack."""
        stack, self.stack = self.stack, None
        if stack is not None:
            stack.down()


def make(kind: str, plan: Plan | None = None) -> Stack:
    """Lay out a stack of a kind."""
    return ComposeStack(plan) if kind == "containers" else ProcessStack(plan)


@pytest.fixture(scope="session")
def keeper(stack_kind: str) -> Iterator[Keeper]:
    """The keeper of this kind's stack."""
    keeper = Keeper(stack_kind)
    yield keeper
    keeper.discard()


@pytest.fixture
def stack(keeper: Keeper, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A running stack, everything ready."""
    taken = keeper.take()
    yield taken
    if request.node.stash.get(FAILED, False):
        request.node.add_report_section("teardown", "stack", taken.logs()[-20_000:])
    keeper.restore()


@pytest.fixture
def fresh(stack_kind: str, request: pytest.FixtureRequest) -> Iterator[Fresh]:
    """Make running stacks for this test alone."""
    made: list[Stack] = []

    def build(plan: Plan) -> Stack:
        stack = make(stack_kind, plan)
        made.append(stack)
        stack.up()
        return stack

    yield build
    for stack in made:
        if request.node.stash.get(FAILED, False):
            request.node.add_report_section("teardown", "stack", stack.logs()[-20_000:])
        stack.down()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An agent that runs, for file servers to be put before it."""
    require("linux")
    made = Place(tmp_path_factory.mktemp("routes"))
    with made.catalog():
        yield made


@pytest.fixture
def farm_flags() -> tuple[str, ...]:
    """Further flags of the agents of `farm`."""
    return ()


@pytest.fixture
def farm(tmp_path: Path, farm_flags: tuple[str, ...]) -> Iterator[Farm]:
    """Running programs of one CA, which is the test itself."""
    require("linux")
    made = Farm(tmp_path)
    made.more = farm_flags
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember that a test failed, so that its stack's logs are shown."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report
