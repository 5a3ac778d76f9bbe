"""player.js and the live page, in Chromium, against a server that does what a test wants."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Dialog
from tests.harness.eventually import eventually
from tests.harness.playing import GESTURELESS, Watchers, Watching, chromium, holds
from tests.harness.whep_stand import TITLE, Refusing, WhepStand, whep_stand

RECOVERY_S = 5.0
"""Within which a player goes on, without a reload, once what it needs is there again."""
WATCH, STOP, LISTEN = "Watch or Listen", "Stop", "Press to listen"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def stand() -> AsyncIterator[WhepStand]:
    async with whep_stand() as made:
        yield made


@pytest.fixture
async def page(browser: Watchers, stand: WhepStand) -> Watching:
    """The live page, the stream chosen."""
    return await chosen(browser, stand)


async def chosen(browser: Watchers, stand: WhepStand) -> Watching:
    page = await browser.open(stand.url())
    await page.choose(TITLE)
    return page


async def playing(page: Watching) -> None:
    await page.press(WATCH)
    await page.plays()
    await page.shows("state", "playing")


# ---------------------------------------------------------------------------- watching


async def test_the_chosen_stream_is_shown_and_sounds_in_order(
    page: Watching, stand: WhepStand
) -> None:
    await playing(page)
    sent, decoded = stand.source.pictures, await page.frames()
    watched = await page.watch_clock(3)
    sent, decoded = stand.source.pictures - sent, await page.frames() - decoded
    assert watched.in_order and not watched.unread
    assert decoded >= 0.95 * sent > 0
    assert await page.colours() >= 20
    figures = await page.figures()
    assert figures["audio"]["totalSamplesReceived"] > 48_000
    assert re.search(r"first picture after \d+ ms · 640.360 · ", await page.text("statistics"))
    assert page.complaints == []


async def test_pictures_are_kept_until_their_sound_is_out(page: Watching) -> None:
    await playing(page)
    kept = "Object.fromEntries(connections.at(-1).getReceivers()"
    kept += ".map((each) => [each.track.kind, each.jitterBufferTarget]))"
    assert await page.run(kept) == {"video": 60, "audio": None}


async def test_a_click_costs_one_request(page: Watching, stand: WhepStand) -> None:
    await eventually(lambda: stand.count("OPTIONS") == 1)
    assert stand.count("POST") == 0
    assert await page.connections() == 1
    await playing(page)
    assert (stand.count("OPTIONS"), stand.count("POST")) == (1, 1)
    assert await page.connections() == 1


async def test_stop_ends_the_session_at_the_server_and_watch_begins_another(
    page: Watching, stand: WhepStand
) -> None:
    await playing(page)
    await page.press(STOP)
    await page.shows("state", "stopped")
    await eventually(lambda: stand.sessions == {})
    assert stand.count("DELETE") == 1
    await playing(page)


async def test_leaving_the_page_ends_the_session(page: Watching, stand: WhepStand) -> None:
    await playing(page)
    await page.page.goto("about:blank")
    await eventually(lambda: stand.count("DELETE") == 1)
    assert stand.sessions == {}


async def test_candidates_are_told_to_a_server_that_wants_them(
    page: Watching, stand: WhepStand
) -> None:
    await playing(page)
    await eventually(lambda: stand.trickled > 0)
    patches = [one for one in stand.asked if one.method == "PATCH"]
    assert {one.headers["If-Match"] for one in patches} == {stand.session.etag}
    assert any("a=end-of-candidates" in one.body for one in patches)


async def test_ice_servers_of_links_are_used(browser: Watchers, stand: WhepStand) -> None:
    stand.links = [
        '<stun:192.0.2.1:3478>; rel="ice-server"',
        '<turn:192.0.2.1:3478?transport=udp>; rel="ice-server"; username="1:a,b"; '
        'credential="x\\"y;z="; credential-type="password"',
        '<http://192.0.2.1/>; rel="help"',
    ]
    page = await chosen(browser, stand)
    await playing(page)
    servers = await page.run("connections[0].getConfiguration().iceServers")
    assert [one["urls"] for one in servers] == [
        ["stun:192.0.2.1:3478"],
        ["turn:192.0.2.1:3478?transport=udp"],
    ]
    assert (servers[1]["username"], servers[1]["credential"]) == ("1:a,b", 'x"y;z=')


@pytest.mark.parametrize("kind", ["audio", "video"])
async def test_a_stream_of_one_kind_is_played(
    browser: Watchers, stand: WhepStand, kind: str
) -> None:
    stand.kinds = (kind,)
    page = await chosen(browser, stand)
    await page.press(WATCH)
    await page.shows("state", "playing")

    async def comes() -> bool:
        return int((await page.figures()).get(kind, {}).get("packetsReceived", 0)) > 20

    await holds(comes)
    other = (await page.figures()).get("video" if kind == "audio" else "audio", {})
    assert other.get("packetsReceived", 0) == 0
    assert await page.text("state") == "playing"
    assert (await page.text("curtain") == "sound only") == (kind == "audio")


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("status", [409, 503])
async def test_retry_after_is_honoured(page: Watching, stand: WhepStand, status: int) -> None:
    stand.refusals.append(Refusing(status, "not yet there\n", 2))
    begun = time.monotonic()
    await page.press(WATCH)
    await page.shows("reason", "not yet there")
    assert await page.text("state") == "waiting"
    await page.plays()
    assert time.monotonic() - begun >= 2
    assert stand.count("POST") == 2


async def test_without_a_time_the_pauses_grow(page: Watching, stand: WhepStand) -> None:
    stand.refusals += [Refusing(404, "no such stream")] * 4
    moments: list[float] = []
    await page.press(WATCH)

    async def asked() -> bool:
        if stand.count("POST") > len(moments):
            moments.append(time.monotonic())
        return len(moments) == 5

    await holds(asked, 20, 0.005)
    pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
    for number, pause in enumerate(pauses):
        assert pause >= 0.75 * 0.25 * 2**number - 0.02
    await page.plays()


@pytest.mark.parametrize("status", [400, 403, 415])
async def test_what_trying_again_does_not_mend_is_told_and_ends(
    page: Watching, stand: WhepStand, status: int
) -> None:
    stand.refusals.append(Refusing(status, "the offer is bad"))
    await page.press(WATCH)
    await page.shows("state", "failed")
    assert await page.text("reason") == "the offer is bad"
    await playing(page)


async def test_the_servers_own_offer_is_answered(browser: Watchers, stand: WhepStand) -> None:
    stand.inverts = True
    page = await chosen(browser, stand)
    await playing(page)
    answers = [one for one in stand.asked if one.headers.get("Content-Type") == "application/sdp"]
    assert [one.method for one in answers] == ["POST", "PATCH"]
    assert answers[1].headers["If-Match"] == stand.session.etag


async def test_an_offer_of_what_the_browser_lacks_fails_and_names_it(
    browser: Watchers, stand: WhepStand
) -> None:
    stand.inverts = stand.unplayable = True
    stand.kinds = ("video",)
    page = await chosen(browser, stand)
    await page.press(WATCH)
    await page.shows("state", "failed")
    assert "H999" in await page.text("reason")
    await eventually(lambda: stand.sessions == {})


async def test_a_token_is_renewed_when_the_server_takes_it_no_more(
    browser: Watchers, stand: WhepStand
) -> None:
    stand.token = "first"
    page = await browser.open(stand.url())
    await page.run(
        """async () => {
          const { Player } = await import('./player.js');
          window.asked = [];
          const tokens = ['old', 'first', 'second'];
          const token = (reason) => { asked.push(reason); return tokens.shift(); };
          const video = document.getElementById('video');
          video.muted = true;
          window.own = new Player(video, '/media/whep/test-pattern', { token });
          own.play();
        }"""
    )
    await page.plays()
    assert await page.run("asked") == ["", "the token is not right"]
    stand.token = "second"
    stand.forget()
    await eventually(lambda: len(stand.sessions) == 1, 10)
    await page.plays()
    assert await page.run("asked.length") == 3


async def test_the_live_page_asks_for_a_token_once_one_is_needed(
    page: Watching, stand: WhepStand
) -> None:
    asked: list[str] = []
    answers = iter(["wrong", "right", None])

    async def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        given = next(answers)
        await (dialog.dismiss() if given is None else dialog.accept(given))

    page.page.on("dialog", answer)
    stand.token = "right"
    assert asked == [], "nothing is asked before the click"
    await page.press(WATCH)
    await page.plays()
    assert [each.partition(":")[0] for each in asked] == [asked[0].partition(":")[0]] * 2
    await page.press(STOP)
    stand.token = "another"
    await page.press(WATCH)
    await page.shows("state", "failed")
    assert len(asked) == 3, "who does not know it is asked no more"


async def test_a_stream_is_chosen_by_the_address_and_no_address_is_the_end_of_the_list(
    browser: Watchers, stand: WhepStand
) -> None:
    page = await browser.open(f"{stand.url()}#100%")
    await page.shows("streams", TITLE)
    assert await page.text("list-state") == ""
    await page.run("location.hash = 'test-pattern'")
    await page.shows("title", TITLE)
    assert page.complaints == []


async def test_a_fixed_token_that_is_wrong_fails(browser: Watchers, stand: WhepStand) -> None:
    stand.token = "right"
    page = await browser.open(stand.url("live/watch.html?test-pattern#wrong"))
    await page.shows("words", "failed: the token is not right")
    assert stand.count("POST") == 1


# ---------------------------------------------------------------------------- trouble


async def test_a_server_that_died_is_found_again(page: Watching, stand: WhepStand) -> None:
    await playing(page)
    await stand.kill()
    await page.shows("state", "waiting", within_s=5)
    await page.shows("reason", "the gateway does not answer", within_s=5)
    stand.revive()
    begun = time.monotonic()
    await page.plays()
    assert time.monotonic() - begun <= RECOVERY_S


async def test_a_server_that_began_anew_is_joined_again(page: Watching, stand: WhepStand) -> None:
    await playing(page)
    begun = time.monotonic()
    await stand.kill()
    stand.revive()
    await eventually(lambda: stand.count("POST") == 2, RECOVERY_S)
    await page.plays()
    assert time.monotonic() - begun <= RECOVERY_S + 1


async def test_a_silent_source_is_waited_for_on_the_same_connection(
    page: Watching, stand: WhepStand
) -> None:
    await playing(page)
    stand.source.sends.clear()
    await page.shows("reason", "the source is silent", within_s=5)
    assert await page.text("state") == "waiting"
    asked = stand.count("GET")
    await eventually(lambda: stand.count("GET") >= asked + 8)  # longer than other patience lasts
    assert await page.text("reason") == "the source is silent"
    stand.source.sends.set()
    await page.shows("state", "playing", within_s=RECOVERY_S)
    await page.plays()
    assert stand.count("POST") == 1


async def test_a_picture_that_stands_still_while_packets_come_is_fetched_anew(
    page: Watching, stand: WhepStand
) -> None:
    await playing(page)
    stand.source.frozen = True
    await page.shows("reason", "the picture stands still", within_s=6)
    begun = time.monotonic()
    await eventually(lambda: stand.count("POST") == 2)
    assert 1 <= time.monotonic() - begun <= 4
    stand.source.frozen = False
    await page.plays()
    await page.shows("state", "playing")


async def test_a_way_that_is_lost_is_restarted_and_then_made_anew(
    page: Watching, stand: WhepStand
) -> None:
    """This server cannot restart ICE: what our gateway can is test_live.py's."""
    await playing(page)
    served = stand.session
    await served.pc.getTransceivers()[0].sender.transport.transport.stop()

    def restarts() -> list[str]:
        told = [one for one in stand.asked if one.method == "PATCH"]
        return [one.body for one in told if one.headers["If-Match"] == "*"]

    await eventually(lambda: restarts() != [], 8)
    assert served.ufrag not in restarts()[0]
    await eventually(lambda: stand.count("POST") == 2, 3)
    await page.plays()


async def test_a_link_that_is_too_slow_is_told_and_no_longer_so_too(
    page: Watching, stand: WhepStand
) -> None:
    await playing(page)
    stand.session.slow = {"needs": 4_200_000, "gets": 1_100_000}
    assert not await page.page.locator("#slow").is_visible()
    stand.session.drop_packets(8)
    await page.shows("slow", "link too slow: needs 4.2 Mbit/s, gets 1.1 Mbit/s")
    stand.session.slow = None
    await holds(page.page.locator("#slow").is_hidden, 15)


async def test_nobody_asks_for_figures_while_all_is_well(page: Watching, stand: WhepStand) -> None:
    """Each answer has all viewers in it: a thousand of them would ask for a million rows."""
    await page.run(
        "() => { window.fetched = []; const fetch = window.fetch; window.fetch ="
        " (url, ...rest) => { fetched.push(String(url)); return fetch(url, ...rest); } }"
    )
    await playing(page)
    await page.watch_clock(6)
    asked = await page.run("fetched")
    assert any(url.endswith("/media/streams") for url in asked)
    assert not [url for url in asked if url.endswith("/media/streams/test-pattern")]


# ---------------------------------------------------------------------------- the pages


async def test_without_a_click_it_plays_muted_and_offers_to_sound(
    browser: Watchers, stand: WhepStand
) -> None:
    page = await browser.open(stand.url("live/watch.html?test-pattern"))
    await page.plays()
    assert await page.run("document.querySelector('video').muted") is True
    await page.press(LISTEN)
    assert await page.run("document.querySelector('video').muted") is False
    await page.plays()
    assert not await page.page.get_by_role("button", name=LISTEN).is_visible()


async def test_where_sound_is_allowed_it_sounds_at_once(stand: WhepStand) -> None:
    async with chromium(GESTURELESS) as browser:
        page = await browser.open(stand.url("live/watch.html?test-pattern"))
        await page.plays()
        assert await page.run("document.querySelector('video').muted") is False


async def test_what_cannot_be_played_is_listed_with_the_reason(
    browser: Watchers, stand: WhepStand
) -> None:
    stand.problem = "its video has B-frames"
    page = await browser.open(stand.url())
    button = page.page.get_by_role("button", name=TITLE)
    await holds(button.is_visible)
    assert "not playable: its video has B-frames" in await button.inner_text()
    assert await button.is_disabled()
    assert await page.page.get_by_role("button", name=WATCH).is_disabled()


async def test_the_list_follows_the_gateway_and_says_when_it_may_be_old(
    page: Watching, stand: WhepStand
) -> None:
    await playing(page)
    await page.shows("streams", "1 viewer", within_s=8)
    stand.down = True
    await page.shows("list-state", "The list may be old", within_s=8)
    assert TITLE in await page.text("streams")
    stand.down = False

    async def gone() -> bool:
        return not await page.text("list-state")

    await holds(gone, 8)


async def test_firefox_is_told_what_to_do_about_loopback_alone(
    browser: Watchers, stand: WhepStand
) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    page = await browser.open(stand.url(), user_agent=agent)
    await page.run(
        "() => { window.hints = []; new MutationObserver(() => hints.push("
        "document.getElementById('hint').textContent)).observe("
        "document.getElementById('hint'), {childList: true, characterData: true, subtree: true}) }"
    )
    await page.choose(TITLE)
    await page.press(WATCH)
    await eventually(lambda: page.run("hints.some((text) => text.includes('ADVERTISE_IPS'))"))


async def test_the_page_is_used_by_keys_alone(browser: Watchers, stand: WhepStand) -> None:
    page = await browser.open(stand.url())
    await holds(page.page.get_by_role("button", name=TITLE).is_visible)
    await page.page.keyboard.press("Tab")
    await page.page.keyboard.press("Enter")
    pressed = page.page.get_by_role("button", name=TITLE, pressed=True)
    assert await pressed.count() == 1
    await page.page.get_by_role("button", name=WATCH).focus()
    await page.page.keyboard.press("Space")
    await page.plays()
    await page.page.get_by_role("button", name=STOP).focus()
    await page.page.keyboard.press("Enter")
    await page.shows("state", "stopped")


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_the_page_fits_a_telephone(browser: Watchers, stand: WhepStand, scheme: str) -> None:
    small = {"width": 360, "height": 640}
    page = await browser.open(stand.url(), viewport=small, color_scheme=scheme)
    await page.choose(TITLE)
    await playing(page)
    assert await page.run("document.documentElement.scrollWidth") <= 360
    background = await page.run(
        "() => { const probe = new OffscreenCanvas(1, 1).getContext('2d');"
        " probe.fillStyle = getComputedStyle(document.body).color; probe.fillRect(0, 0, 1, 1);"
        " return probe.getImageData(0, 0, 1, 1).data[0] }"
    )
    assert (background > 128) == (scheme == "dark")
