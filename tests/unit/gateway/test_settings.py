"""The command line of the gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from callboard.chassis.settings import SettingsError
from callboard.gateway.__main__ import run
from callboard.gateway.settings import FLAGS, GatewaySettings, build
from callboard.gateway.sources.senders import LOOPBACK, network_of


def settings(*argv: str, **environ: str) -> GatewaySettings:
    return build(FLAGS.parse(argv), environ, host_name="host-1")


def test_alone_it_is_open_on_loopback_with_the_ports_of_the_table() -> None:
    found = settings()
    assert (found.bind, found.port, found.https_port) == ("127.0.0.1", 8889, -1)
    assert (found.media_bind, found.media_port) == ("127.0.0.1", 8189)
    assert (found.janus_port, found.janus_ws_port) == (8088, 8188)
    assert (found.rtp_port, found.rtp_audio_port) == (5004, 5002)
    assert (found.rtp_from, found.rtp_from_neighbour) == (LOOPBACK, False)
    assert not found.pattern
    assert (found.catalog, found.register, found.hub) == ((), False, "")
    assert found.node == "host-1"


def test_with_agents_it_registers() -> None:
    found = settings("-catalog=agent-1,agent-2", "-node=gateway-1", "-advertise=10.0.0.9")
    assert found.catalog == ("http://agent-1:8500", "http://agent-2:8500")
    assert (found.register, found.node, found.advertise) == (True, "gateway-1", "10.0.0.9")
    assert not settings("-catalog=agent-1", "-register=false").register


def test_with_an_identity_agents_and_programs_are_spoken_to_by_tls() -> None:
    found = settings("-catalog=agent-1", "-identity=/identity")
    assert found.catalog == ("https://agent-1:8501",)
    assert found.https_port == 8890
    assert settings("-identity=/identity", "-mutual-tls=off").https_port == -1


def test_ports_may_be_off() -> None:
    found = settings("-janus-port=-1", "-janus-ws-port=-1", "-rtp-port=-1", "-rtp-audio-port=-1")
    ports = (found.janus_port, found.janus_ws_port, found.rtp_port, found.rtp_audio_port)
    assert ports == (-1, -1, -1, -1)


def test_media_leaves_loopback_only_when_an_address_of_elsewhere_is_advertised() -> None:
    for loopback in ("127.0.0.1", "127.0.0.1:18189", "[::1]:18189"):
        assert settings(f"-advertise-ips={loopback}").media_bind == "127.0.0.1"
    assert settings("-advertise-ips=192.0.2.1:18189").media_bind == "0.0.0.0"
    assert settings("-advertise-ips=192.0.2.1,127.0.0.1").media_bind == "0.0.0.0"
    assert settings("-bind=::1", "-advertise-ips=2001:db8::1").media_bind == "::"
    assert settings(ADVERTISE_IPS="media.example, stun:stun.example:3478").advertised == (
        "media.example",
        "stun:stun.example:3478",
    )
    found = settings("-advertise-ips=192.0.2.1", "-media-bind=192.0.2.1", ADVERTISE_IPS="x")
    assert (found.media_bind, found.advertised) == ("192.0.2.1", ("192.0.2.1",))


def test_scripts_may_send_from_where_it_is_said() -> None:
    found = settings("-rtp-from=gateway", "-rtp-from=10.0.0.0/8", "-rtp-from=2001:db8::5")
    assert found.rtp_from == (*LOOPBACK, network_of("10.0.0.0/8"), network_of("2001:db8::5"))
    assert found.rtp_from_neighbour


def test_files_and_lists_arrive(tmp_path: Path) -> None:
    found = settings(
        "-whep-token=a", f"-whip-token={tmp_path / 'b'}", "-hub-token=c", "-streams=d.json",
        "-allowed-host=x", "-allowed-origin=https://a.example", "-max-viewers=7", "-pattern",
        "-frame-ancestors='self'  https://a.example",
        "-fanout=plain", "-hub=hub.example:8800", "-health=127.0.0.1:9090",
    )  # fmt: skip
    files = (found.whep_token, found.whip_token, found.hub_token, found.streams)
    assert files == (Path("a").absolute(), tmp_path / "b", Path("c").absolute(),
                     Path("d.json").absolute())  # fmt: skip
    assert (found.allowed_hosts, found.allowed_origins) == (("x",), ("https://a.example",))
    assert found.frame_ancestors == "'self' https://a.example"
    assert (found.max_viewers, found.pattern, found.fanout) == (7, True, "plain")
    assert found.hub == "http://hub.example:8800"
    assert found.health == ("127.0.0.1", 9090)


def test_servers_that_viewers_are_told_of_arrive() -> None:
    found = settings("-ice-server=stun:a:3478", "-ice-server=turns:b:5349", "-turn-secret=s")
    assert found.ice_servers == ("stun:a:3478", "turns:b:5349")
    assert found.turn_secret == Path("s").absolute()
    assert found.turn_lifetime_s == 12 * 3600


def test_servers_that_viewers_are_told_of_may_come_by_the_environment() -> None:
    told = "turn:a:3478?transport=udp, turns:a:5349?transport=tcp"
    found = settings(ICE_SERVERS=told, TURN_SECRET="/turn/secret")
    assert found.ice_servers == ("turn:a:3478?transport=udp", "turns:a:5349?transport=tcp")
    assert found.turn_secret == Path("/turn/secret")
    without = settings(ICE_SERVERS="", TURN_SECRET="/turn/secret")
    assert (without.ice_servers, without.turn_secret) == ((), None)


def test_the_environment_gives_what_the_command_line_does_not() -> None:
    found = settings(BIND="0.0.0.0", ALLOW_PLAIN="1", PUBLIC_HOST="farm.example", SOURCE="10.0.0.7")
    assert (found.bind, found.source) == ("0.0.0.0", "10.0.0.7")
    assert found.allowed_hosts == ("farm.example",)
    assert settings("-bind=127.0.0.2", BIND="127.0.0.3").bind == "127.0.0.2"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-bind=0.0.0.0"], "allow-plain"),
        (["-bind=gateway"], "-bind is an IP address"),
        (["-media-bind=anywhere"], "-media-bind is an IP address"),
        (["-media-port=-1"], "no port"),
        (["-rtp-port=65536"], "no port"),
        (["-janus-port=-2"], "no port"),
        (["-advertise-ips=https://a.example"], "stun:HOST:PORT"),
        (["-rtp-from=everywhere"], "-rtp-from is an address"),
        (["-max-viewers=-1"], "less than 0"),
        (["-frame-ancestors=a; script-src *"], "-frame-ancestors: "),
        (["-fanout=fast"], "native or plain"),
        (["-ice-server=http://a"], "is no stun:"),
        (["-ice-server=turn:"], "is no stun:"),
        (["-ice-server=turn:a:3478"], "needs the secret"),
        (["-turn-secret=s", "-ice-server=stun:a:1"], "needs an -ice-server"),
        (["-turn-lifetime=59"], "less than 60"),
        (["-hub=ftp://a"], "no hub's URL"),
        (["-catalog=ftp://a"], "-catalog"),
        (["-exchange=/x"], "needs -identity"),
        (["-health=9090"], "IP:PORT"),
        (["-log-level=loud"], "loud"),
        (["serve"], "unexpected argument"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(arguments: list[str], why: str) -> None:
    with pytest.raises(SettingsError, match=why) as refused:
        settings(*arguments)
    assert "\n" not in str(refused.value)


def test_a_command_line_that_cannot_be_used_ends_the_program_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["-bind=here"], {}) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "callboard gateway: -bind is an IP address, not 'here'\n"
