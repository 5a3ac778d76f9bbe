"""The blocking client and the CLI at an agent's https port, which asks for a certificate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.harness.api import ApiSite, api_site
from tests.harness.certified import CA, material

from callboard.agent.commands import catalog as verb
from callboard.client.addresses import parse_addresses
from callboard.client.asynchronous import AsyncClient
from callboard.client.errors import Unreachable
from callboard.client.transport import TlsOptions, Transport
from callboard.pki.contexts import Material
from callboard.pki.live import LiveIdentity
from callboard.pki.roles import names_for
from callboard.serve import Server


@pytest.fixture
def authority() -> CA:
    """The farm's."""
    return CA(constraints=None)


@pytest.fixture
def operator(authority: CA, tmp_path: Path) -> Material:
    """A person's files."""
    return material(tmp_path / "operator", authority.leaf(names_for("operator", "")), authority)


@asynccontextmanager
async def agent(authority: CA, place: Path) -> AsyncIterator[tuple[ApiSite, int]]:
    """The API of an agent at an https port."""
    identity = LiveIdentity(material(place / "agent", authority.leaf(), authority))
    async with api_site() as site:
        server = Server(
            site.api.app,
            handlers=site.api.routes,
            ssl_context=identity.for_clients(),
            trust="dc1.consul",
        )
        await server.start()
        try:
            yield site, server.port
        finally:
            await server.stop(drain_s=1.0)


def options(files: Material, **others: str | bool) -> TlsOptions:
    values: dict[str, str | bool] = {
        "ca_file": str(files.authorities),
        "certificate_file": str(files.certificate),
        "key_file": str(files.key),
        **others,
    }
    return TlsOptions(**values)  # type: ignore[arg-type]


def get(port: int, tls: TlsOptions) -> tuple[int, str]:
    transport = Transport(parse_addresses(f"https://127.0.0.1:{port}"), tls=tls, timeout_s=10.0)
    try:
        response = transport.request("GET", "/v1/catalog/nodes")
        return response.status, response.text
    finally:
        transport.close()


async def test_operator_is_answered(authority: CA, operator: Material, tmp_path: Path) -> None:
    async with agent(authority, tmp_path) as (_, port):
        assert await asyncio.to_thread(get, port, options(operator)) == (200, "[]")
        async with AsyncClient(f"https://127.0.0.1:{port}", tls=options(operator)) as client:
            assert await client.services() == {}


async def test_wrong_role_is_answered_403_in_words(authority: CA, tmp_path: Path) -> None:
    files = material(tmp_path / "x", authority.leaf(names_for("issuer", "issuer")), authority)
    async with agent(authority, tmp_path) as (_, port):
        status, text = await asyncio.to_thread(get, port, options(files))
        assert status == 403
        assert "the certificate of issuer has issuer" in text


async def test_client_without_a_certificate_is_told_so(
    authority: CA, operator: Material, tmp_path: Path
) -> None:
    async with agent(authority, tmp_path) as (_, port):
        bare = TlsOptions(ca_file=str(operator.authorities))
        with pytest.raises(Unreachable) as caught:
            await asyncio.to_thread(get, port, bare)
        assert str(caught.value).endswith("tls: it wants a certificate of us, and we showed none")


async def test_agent_that_is_not_trusted_is_told_in_words(
    authority: CA, operator: Material, tmp_path: Path
) -> None:
    stranger = CA("another CA").write(tmp_path / "stranger")
    async with agent(authority, tmp_path) as (_, port):
        with pytest.raises(Unreachable, match="its certificate is not accepted"):
            await asyncio.to_thread(get, port, options(operator, ca_file=str(stranger)))
        with pytest.raises(Unreachable, match="not valid for 'elsewhere'"):
            await asyncio.to_thread(get, port, options(operator, server_name="elsewhere"))
        named = options(operator, server_name="server.dc1.consul")
        assert (await asyncio.to_thread(get, port, named))[0] == 200
        careless = options(operator, ca_file="", verify=False)
        assert (await asyncio.to_thread(get, port, careless))[0] == 200


@pytest.mark.parametrize("broken", ["ca_file", "certificate_file", "key_file"])
@pytest.mark.parametrize("body", [None, b"", b"no PEM"])
async def test_file_that_cannot_be_used_is_named(
    operator: Material, tmp_path: Path, broken: str, body: bytes | None
) -> None:
    path = tmp_path / "broken.pem"
    if body is not None:
        path.write_bytes(body)
    with pytest.raises(
        Unreachable, match=r"tls: .*broken\.pem.*: (No such file|not readable|tls: )"
    ):
        get(1, options(operator, **{broken: str(path)}))


def run_nodes(argv: list[str], environ: Mapping[str, str]) -> int:
    return verb.run(["nodes", *argv], environ)


async def test_cli_takes_consuls_variables(
    authority: CA,
    operator: Material,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environ = {
        "CONSUL_HTTP_SSL": "true",
        "CONSUL_CACERT": str(operator.authorities),
        "CONSUL_CLIENT_CERT": str(operator.certificate),
        "CONSUL_CLIENT_KEY": str(operator.key),
    }
    async with agent(authority, tmp_path) as (_, port):
        told = {**environ, "CONSUL_HTTP_ADDR": f"127.0.0.1:{port}"}
        assert await asyncio.to_thread(run_nodes, [], told) == 0
        del told["CONSUL_CLIENT_CERT"]
        assert await asyncio.to_thread(run_nodes, [], told) == 1
        assert "it wants a certificate of us" in capsys.readouterr().err


async def test_cli_takes_consuls_flags(authority: CA, operator: Material, tmp_path: Path) -> None:
    async with agent(authority, tmp_path) as (_, port):
        flags = [
            f"-http-addr=https://127.0.0.1:{port}",
            f"-ca-file={operator.authorities}",
            f"-client-cert={operator.certificate}",
            f"-client-key={operator.key}",
        ]
        assert await asyncio.to_thread(run_nodes, flags, {}) == 0


def test_cli_asks_the_https_port_when_told_ssl_and_no_address(
    capsys: pytest.CaptureFixture[str],
) -> None:
    environ = {"CONSUL_HTTP_SSL": "true"}
    assert run_nodes([], environ) == 1
    assert "127.0.0.1:8501" in capsys.readouterr().err
