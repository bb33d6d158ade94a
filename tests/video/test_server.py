"""The live page: who gets in, what rubbish does, and the page itself in a real browser."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import ipaddress
import json
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl.errors import VideoError
from drivetl.runtime import Detections, Detector
from drivetl.video import Around, Controls, Model, Outputs, VideoResult, VideoSettings, run_video
from drivetl.video.live import LiveSource, Patience
from drivetl.video.server import LivePage
from drivetl.video.source_info import SourceInfo
from drivetl.video.tracking import Tracked

_PLACE = Path(__file__).parents[1] / "report" / "browser.py"
_SPEC = importlib.util.spec_from_file_location("drivetl_test_browser_live", _PLACE)
assert _SPEC is not None and _SPEC.loader is not None
browser = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = browser
_SPEC.loader.exec_module(browser)

RUDE = "<img src=x onerror=alert(1)>"


def publish(page: LivePage, level: int = 90) -> None:
    boxes = np.array([[1, 2, 30, 40]], np.float32)
    found = Detections(boxes, np.array([0.5], np.float32), np.array([0], np.int64))
    tracked = Tracked(found, np.array([3], np.int64), boxes)
    figures = {"frame": 7, "latency_ms": 12.5, "p99_ms": 20.0, "dropped": 2, "views": [tracked]}
    page.publish(np.full((48, 64, 3), level, np.uint8), figures)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[LivePage]:
    monkeypatch.setattr("drivetl.video.server._FAREWELL_S", 0.0)
    with LivePage(port=0) as live:
        live.begin(Controls(0.25), {"source": RUDE, "models": ["m  fp32  cpu"], "classes": [[RUDE, "person"]]})
        publish(live)
        yield live


class Answer:
    def __init__(self, page: LivePage, method: str, path: str, body: str | None = None, **headers: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
        shown = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Host": f"127.0.0.1:{page.port}", **shown})
        answer = connection.getresponse()
        self.status, self.headers = answer.status, answer.headers
        self.text = "" if path == "/stream" and answer.status == 200 else answer.read().decode()
        connection.close()


def pass_for(page: LivePage) -> dict[str, str]:
    return {"Cookie": f"other=1; {page.cookie}={page.token}"}


def test_the_token_opens_the_page_and_leaves_the_address(page: LivePage) -> None:
    first = Answer(page, "GET", f"/?token={page.token}")
    assert (first.status, first.headers["Location"]) == (303, "/")
    assert first.headers["Set-Cookie"] == f"{page.cookie}={page.token}; HttpOnly; SameSite=Lax; Path=/"
    shown = Answer(page, "GET", "/", **pass_for(page))
    assert shown.status == 200 and page.token not in shown.text and RUDE not in shown.text
    policy = shown.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
    assert len(page.token) >= 32 and page.url == f"http://127.0.0.1:{page.port}/?token={page.token}"


@pytest.mark.parametrize("path", ["/", "/state", "/stream", "/nothing", "/?token=", "/?token=wrong", "/?token=%FF"])
def test_without_the_token_there_is_nothing(page: LivePage, path: str) -> None:
    refused = Answer(page, "GET", path)
    assert refused.status == 403 and "its token" in refused.text
    assert Answer(page, "GET", path, Cookie=f"{page.cookie}=wrong; x").status == 403


def test_a_link_in_another_page_opens_the_page_and_nothing_else(page: LivePage) -> None:
    """What a browser sends where the printed address was clicked in a chat: the cookie, and whose link it was."""
    clicked = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert Answer(page, "GET", f"/?token={page.token}", **clicked).status == 303
    assert Answer(page, "GET", "/", **pass_for(page), **clicked).status == 200
    for path in ("/state", "/stream"):
        refused = Answer(page, "GET", path, **pass_for(page), **clicked)
        assert refused.status == 403 and "own address" in refused.text


def test_the_given_name_counts_in_any_case(page: LivePage) -> None:
    page.host = "Car-7.example"
    for name in ("Car-7.example", "car-7.example", "CAR-7.EXAMPLE"):
        assert page.expects(f"{name}:{page.port}")
    assert not page.expects(f"car-8.example:{page.port}")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "a@127.0.0.1:{port}", ""]
)
def test_another_name_gets_nothing(page: LivePage, host: str) -> None:
    """DNS rebinding: evil.example resolves to 127.0.0.1, and the browser sends its name."""
    refused = Answer(page, "GET", "/state", **pass_for(page), Host=host.format(port=page.port))
    assert refused.status == 403 and "own address" in refused.text


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "192.168.3.4:{port}"])
def test_its_own_names(page: LivePage, host: str) -> None:
    assert Answer(page, "GET", "/state", **pass_for(page), Host=host.format(port=page.port)).status == 200


def test_the_port_of_http_goes_without_saying(page: LivePage) -> None:
    assert not page.expects("127.0.0.1")
    page.port = 80
    assert page.expects("127.0.0.1") and page.expects("127.0.0.1:80") and not page.expects("127.0.0.1:81")


def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        with pytest.raises(VideoError, match="--host takes an address of this machine"):
            LivePage("::1", 0)
        return
    with LivePage("::1", 0) as page:
        assert page.url.startswith(f"http://[::1]:{page.port}/")
        with socket.create_connection(("::1", page.port), timeout=5) as client:
            client.sendall(f"GET / HTTP/1.0\r\nHost: [::1]:{page.port}\r\n\r\n".encode())
            assert b" 403 " in client.recv(1000), "known by its name, and asked for the token"


def test_other_sites_may_not_steer(page: LivePage) -> None:
    def post(**headers: str) -> int:
        return Answer(page, "POST", "/control", '{"paused": true}', **pass_for(page), **headers).status

    assert post() == 403  # no origin at all
    assert post(Origin="http://evil.example") == 403
    assert post(Origin="null") == 403
    assert post(Origin=f"http://127.0.0.1:{page.port}", Sec_Fetch_Site="cross-site") == 403
    assert not page.state()["paused"]
    assert post(Origin=f"http://127.0.0.1:{page.port}", Sec_Fetch_Site="same-origin") == 204
    assert page.state()["paused"]
    own = {"Origin": f"http://127.0.0.1:{page.port}"}
    assert Answer(page, "POST", "/control", '{"paused": false}', **own).status == 403  # no token
    assert Answer(page, "GET", "/state", **pass_for(page), Origin="http://evil.example").status == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("rubbish", 400),
        ("[1]", 400),
        ('{"confidence": 2}', 400),
        ('{"confidence": NaN}', 400),
        ('{"confidence": "0.5"}', 400),
        ('{"paused": 1}', 400),
        ('{"ended": true}', 400),
        ("[" * 900, 400),
        ("x" * 1001, 413),
    ],
)
def test_changes_that_are_none(page: LivePage, body: str, status: int) -> None:
    answer = Answer(page, "POST", "/control", body, **pass_for(page), Origin=f"http://127.0.0.1:{page.port}")
    assert answer.status == status
    assert (page.state()["paused"], page.state()["confidence"]) == (False, 0.25)


def test_rubbish_on_the_socket(page: LivePage, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for data in (rng.bytes(3000), b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000, b"\r\n" * 500, b""):
        with socket.create_connection(("127.0.0.1", page.port), timeout=5) as client:
            client.sendall(data)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # hang up with a reset
    for method in ("PUT", "DELETE", "OPTIONS", "BREW"):
        assert Answer(page, method, "/").status == 501
    host = f"Host: 127.0.0.1:{page.port}"
    for target, header, status in (("/", "Host: [", 400), ("/", "Host: a:b", 400), ("http://[", host, 400)):
        with socket.create_connection(("127.0.0.1", page.port), timeout=5) as client:
            client.sendall(f"GET {target} HTTP/1.0\r\n{header}\r\n\r\n".encode())
            assert f" {status} ".encode() in client.recv(1000)
    assert Answer(page, "GET", "/state", **pass_for(page)).status == 200
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("length", ["1001", "9" * 5000, "-1", "x", ""])
def test_a_length_that_is_none_is_refused(page: LivePage, length: str, capfd: pytest.CaptureFixture[str]) -> None:
    own = {**pass_for(page), "Origin": f"http://127.0.0.1:{page.port}", "Content_Length": length}
    assert Answer(page, "POST", "/control", "{}", **own).status == 413
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("host", ["\xfc..x", "a\0b", "\xe4" * 100])
def test_a_host_that_is_no_name(host: str) -> None:
    with pytest.raises(VideoError, match=r"cannot serve on .*--host takes an address of this machine"):
        LivePage(host, 0)


def test_two_clients_and_a_slow_one(page: LivePage) -> None:
    """Each gets pictures; one that does not read holds nobody up."""
    request = f"GET /stream HTTP/1.0\r\nHost: 127.0.0.1:{page.port}\r\nCookie: {page.cookie}={page.token}\r\n\r\n"
    clients = [socket.create_connection(("127.0.0.1", page.port), timeout=5) for _ in range(3)]
    for client in clients:
        client.sendall(request.encode())
    taken_s = []
    for level in range(40):
        begun = time.perf_counter()
        publish(page, 5 * level)
        taken_s.append(time.perf_counter() - begun)
        time.sleep(0.005)
    assert max(taken_s) < 1  # a write to a full socket would wait for ever
    for client in clients[:2]:
        data = b""
        while data.count(b"\xff\xd9") < 2:
            data += client.recv(1 << 16)
        jpeg = data[data.index(b"\xff\xd8") : data.index(b"\xff\xd9") + 2]
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (48, 64, 3)
    for client in clients:
        client.close()


def opened_stream(page: LivePage) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", page.port), timeout=20)
    cookie = f"{page.cookie}={page.token}"
    client.sendall(f"GET /stream HTTP/1.0\r\nHost: 127.0.0.1:{page.port}\r\nCookie: {cookie}\r\n\r\n".encode())
    return client


def until(true: Callable[[], bool], within_s: float = 30.0) -> bool:
    deadline = time.perf_counter() + within_s
    while not (answer := true()) and time.perf_counter() < deadline:
        time.sleep(0.05)
    return answer


def pictures_of(client: socket.socket, count: int) -> None:
    data = b""
    while data.count(b"\xff\xd9") < count:
        part = client.recv(1 << 16)
        assert part, "hung up"
        data += part


def test_a_picture_that_stands_still_is_sent_again(page: LivePage) -> None:
    with opened_stream(page) as client:
        pictures_of(client, 3)


def test_browsers_that_leave_while_nothing_new_comes_make_room_for_others(page: LivePage) -> None:
    for _ in range(8):
        with opened_stream(page) as client:
            pictures_of(client, 1)  # from here on the server has nothing to write, by which it would notice

    def free() -> bool:
        with opened_stream(page) as client:
            return client.recv(12) == b"HTTP/1.0 200"

    assert until(free)


def test_idle_connections_cost_neither_the_run_nor_its_owner(page: LivePage) -> None:
    """Nobody of them has the token; without a limit each would keep a thread and a file descriptor of the run."""
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        watching = stack.enter_context(opened_stream(page))
        assert watching.recv(12) == b"HTTP/1.0 200"
        strangers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", page.port), timeout=20)) for _ in range(300)
        ]
        assert Answer(page, "GET", "/state", **pass_for(page)).status == 200
        assert threading.active_count() - before <= 70
        # Those that came first were hung up on; an open connection would have nothing to say.
        assert until(lambda: len(select.select(strangers, [], [], 0)[0]) >= 230)
        assert all(client.recv(1) == b"" for client in select.select(strangers, [], [], 0)[0])
        pictures_of(watching, 2)


def test_streams_are_limited(page: LivePage) -> None:
    held = [page.streams.acquire(blocking=False) for _ in range(8)]
    assert all(held)
    assert Answer(page, "GET", "/stream", **pass_for(page)).status == 503


def test_a_port_in_use(page: LivePage) -> None:
    with pytest.raises(
        VideoError, match=rf"cannot serve on '127.0.0.1:{page.port}': Address already in use; .*--port 0"
    ):
        LivePage(port=page.port)
    with pytest.raises(VideoError, match="cannot serve on"):
        LivePage("192.0.2.1", 0)


def test_what_is_open_to_the_network() -> None:
    for host, local in (("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)):
        live = LivePage(host, 0)
        assert live.local == local
        live._server.server_close()


def test_no_host_is_not_every_host() -> None:
    with pytest.raises(VideoError, match=r"--host '' names no address; give one of this machine, such as 127\.0\.0\.1"):
        LivePage("", 0)


@pytest.mark.parametrize("host", ["0.0.0.0", "0", "::"])
def test_the_address_that_is_printed_for_every_address_is_one_of_this_machine(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named() -> tuple[str, str]:
        try:
            live = LivePage(host, 0)
        except VideoError:
            pytest.skip("needs IPv6: this machine has none")
        address = live.url.removeprefix("http://").partition("/")[0]
        assert live.expects(address) and not live.local and not live.expects(f"evil.example:{live.port}")
        live._server.server_close()
        return live.reachable, address.rpartition(":")[0]

    monkeypatch.setattr("socket.gethostname", lambda: "Car-7")
    reachable, shown = named()
    assert shown == (f"[{reachable}]" if ":" in reachable else reachable)
    if reachable != "Car-7":  # the machine has a way to the outside: the address is its own, because it can be taken
        address = ipaddress.ip_address(reachable)
        assert not address.is_unspecified and not address.is_loopback
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        socket.create_server((reachable, 0), family=family).close()
    monkeypatch.setattr("drivetl.video.address._own_address", lambda *_: None)
    assert named() == ("Car-7", "Car-7")


def test_an_address_of_its_own_stays_as_it_was_given() -> None:
    for host in ("127.0.0.1", "localhost"):
        live = LivePage(host, 0)
        assert live.url.startswith(f"http://{host}:{live.port}/?token=")
        live._server.server_close()


@pytest.fixture
def running(
    make_video: Callable[..., Path], detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[LivePage, list[VideoResult]]]:
    """A run of 60 s at 25 frames a second, in a thread, with a page: a car of confidence 0.78, a person of 0.39."""
    monkeypatch.setattr("drivetl.video.server._FAREWELL_S", 0.3)
    source = make_video("<b>in.mp4", [200] * 1500, size_wh=(256, 128))
    done: list[VideoResult] = []
    stop = threading.Event()
    with LivePage(port=0) as live:
        around = Around(stopped=stop.is_set, page=live)
        models = [Model(detector, RUDE)]

        def work() -> None:
            done.append(run_video(str(source), models, Outputs(), VideoSettings(), around))

        thread = threading.Thread(target=work)
        thread.start()
        yield live, done
        stop.set()
        thread.join()


_COUNTS = "[...document.querySelectorAll('#counts tr')].map(r => r.innerText.replace(/\\s+/g, ' ')).join()"
_PIXELS = """const i = document.getElementById('picture'), c = document.createElement('canvas');
c.width = i.width; c.height = i.height; const p = c.getContext('2d', {willReadFrequently: true}); p.drawImage(i, 0, 0);
const d = p.getImageData(0, 0, c.width, c.height).data;"""
_COLOURED = (
    f"(() => {{ {_PIXELS}"
    """ let n = 0;
for (let k = 0; k < d.length; k += 4)
  if (Math.max(d[k], d[k+1], d[k+2]) - Math.min(d[k], d[k+1], d[k+2]) > 60) n++;
return n; })()"""
)


_LEVEL = f"(() => {{ {_PIXELS} return Math.round(d[0] / 10); }})()"
_STATUS = "document.getElementById('status').innerText"


def open_tab(pipe: Any, page: LivePage) -> Any:
    tab = browser.Tab(pipe, page.url, 1280)
    assert tab.wait("document.title", "drivetl live") == "drivetl live"
    assert tab.wait("document.readyState", "complete") == "complete"
    return tab


def slide(tab: Any, value: float) -> None:
    tab.ask(
        f"(() => {{ const s = document.getElementById('threshold'); s.value = {value}; "
        "s.dispatchEvent(new Event('input', {bubbles: true})); return 1; })()"
    )


def test_the_page_in_a_browser(running: tuple[LivePage, list[VideoResult]], tmp_path: Path) -> None:
    live, _ = running
    with browser.browser() as pipe:
        tab = browser.Tab(pipe, live.url, 1280)
        assert tab.wait("document.title", "drivetl live") == "drivetl live"
        assert tab.wait(_COUNTS, "car 1,person 1") == "car 1,person 1"
        assert tab.wait("document.getElementById('picture').width", "256") == "256"
        assert tab.wait(f"{_COLOURED} > 300") == "True"
        both = int(tab.ask(_COLOURED))
        # It plays: the numbers move.
        frame = tab.ask("document.getElementById('status').innerText")
        assert frame.startswith("running, frame ")
        assert tab.wait(f"document.getElementById('status').innerText !== {frame!r}") == "True"
        assert float(tab.ask("document.getElementById('latency').innerText")) > 0
        # The slider changes the boxes, in the list and in the picture.
        slide(tab, 0.6)
        assert tab.wait(_COUNTS, "car 1") == "car 1"
        assert tab.wait(f"{_COLOURED} < {0.8 * both} && {_COLOURED} > 50") == "True"
        slide(tab, 0.95)
        assert tab.wait(_COUNTS, "") == ""
        assert tab.wait(f"{_COLOURED} < 50") == "True"
        slide(tab, 0.25)
        assert tab.wait(_COUNTS, "car 1,person 1") == "car 1,person 1"
        assert tab.ask("document.querySelectorAll('#rows tr').length") == "2"
        # Pause holds the frames, and going on lets them go.
        tab.click("#pause")
        assert tab.wait("document.getElementById('status').innerText", "paused") == "paused"
        time.sleep(0.3)
        held = live.state()["frame"]
        time.sleep(0.4)
        assert live.state()["frame"] == held
        tab.click("#pause")
        assert tab.wait("document.getElementById('status').innerText.startsWith('running')") == "True"
        # Names are text, and nothing is asked of anybody else.
        assert tab.ask("document.querySelectorAll('b, header img').length") == "0"
        assert "<b>in.mp4" in tab.ask("document.getElementById('source').innerText")
        tab.screenshot(tmp_path / "page.png")
        assert cv2.imread(str(tmp_path / "page.png")).shape[1] == 1280
        assert {url.split("/")[2] for url in tab.requests()} == {f"127.0.0.1:{live.port}"}
        assert tab.console() == []


def test_the_run_ends_and_the_page_says_so(
    make_video: Callable[..., Path], detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivetl.video.server._FAREWELL_S", 0.3)
    with LivePage(port=0) as live:
        source = make_video("in.mp4", [200] * 10, fps=50, size_wh=(256, 128))
        begun = time.perf_counter()
        result = run_video(str(source), [Model(detector)], None, None, Around(page=live))
        assert time.perf_counter() - begun > 0.15  # with a page a file plays at its own rate
        assert result.frames_out == 10 and live.state()["running"]
        state = live.state()
        assert state["models"][0]["counts"] == {"car": 1, "person": 1} and len(state["history_ms"]) == 10
        assert json.dumps(state, allow_nan=False)
    assert not live.running


def test_a_connection_that_is_lost_is_sought_again(page: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    with browser.browser() as pipe:
        tab = open_tab(pipe, page)
        assert tab.wait(_STATUS, "running, frame 7") == "running, frame 7"
        assert tab.wait(_LEVEL, "9") == "9"
        page._server.shutdown()
        page._server.server_close()
        for client in list(page._server._open):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        lost = "connection lost, retrying"
        assert tab.wait(_STATUS, lost) == lost
        assert tab.ask("document.body.className") == "stale"
        with LivePage(port=page.port) as back:
            back.token = page.token
            back.begin(Controls(0.25), {"source": "again", "models": [], "classes": []})
            publish(back, 150)
            assert tab.wait(_STATUS, "running, frame 7") == "running, frame 7"
            assert tab.wait(_LEVEL, "15") == "15"
            assert tab.ask("document.body.className") == ""
            monkeypatch.setattr("drivetl.video.server._FAREWELL_S", 5.0)
        assert tab.wait(_STATUS, "the run is over") == "the run is over"
        time.sleep(1)
        assert tab.ask(_STATUS) == "the run is over"  # the server said so: its absence is no loss
        monkeypatch.setattr("drivetl.video.server._FAREWELL_S", 0.0)


def test_a_stay_away_server_counts_as_gone_and_another_run_refuses(page: LivePage) -> None:
    with browser.browser() as pipe:
        tab = open_tab(pipe, page)
        assert tab.wait(_STATUS, "running, frame 7") == "running, frame 7"
        tab.ask("(() => { const now = Date.now; Date.now = () => now() + 60000 * (window.later || 0); return 1; })()")
        page._server.shutdown()
        page._server.server_close()
        assert tab.wait(_STATUS, "connection lost, retrying") == "connection lost, retrying"
        tab.ask("window.later = 1")
        assert tab.wait(f"{_STATUS}.startsWith('no answer')") == "True"
        with LivePage(port=page.port):
            assert tab.wait(f"{_STATUS}.startsWith('refused: open the address')") == "True"


def test_a_stream_that_ends_or_stalls_is_opened_again(page: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[float] = []

    class Counting(threading.Semaphore):
        def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
            opened.append(time.perf_counter())
            return super().acquire(blocking, timeout)

    page.streams = Counting(8)
    with browser.browser() as pipe:
        tab = open_tab(pipe, page)
        assert tab.wait(_LEVEL, "9") == "9"
        # As after a write on which a client that stood still kept the server waiting for ten seconds.
        for client, known in list(page._server._open.items()):
            if known:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
        publish(page, 150)
        assert tab.wait(_LEVEL, "15") == "15"
        before = len(opened)
        assert before >= 2
        # A connection that stays open and brings nothing more.
        monkeypatch.setattr("drivetl.video.answers._REPEAT_S", 1e9)
        assert until(lambda: len(opened) > before)
        publish(page, 200)
        assert tab.wait(_LEVEL, "20") == "20"


def test_a_page_that_gets_no_picture_says_why(page: LivePage) -> None:
    held = [page.streams.acquire(blocking=False) for _ in range(8)]
    assert all(held)
    with browser.browser() as pipe:
        tab = open_tab(pipe, page)
        text = "no picture: 8 browsers are watching already"
        assert tab.wait("document.getElementById('notice').innerText", text) == text
        page.streams.release()
        assert tab.wait(_LEVEL, "9") == "9"
        assert tab.wait("document.getElementById('notice').hidden") == "True"


def test_silence_of_a_live_source_is_counted_and_shown(page: LivePage) -> None:
    page.begin(Controls(0.25), {"source": "camera 0", "live": True, "models": [], "classes": []})
    publish(page)
    page.tell("camera 0: the connection broke after 7 frames; connecting again")
    assert until(lambda: page.state()["silence_s"] > 2.0)
    assert page.state()["news"][0]["text"].endswith("connecting again")
    with browser.browser() as pipe:
        tab = open_tab(pipe, page)
        assert tab.wait(f"/^no frame for [0-9]+ s$/.test({_STATUS})") == "True"
        assert "connecting again" in tab.ask("document.getElementById('said').innerText")
        assert tab.ask("document.body.className") == "stale"
        assert tab.wait("Number(document.getElementById('fps').innerText) < 0.6") == "True"
        page.change(b'{"paused": true}')
        assert page.state()["silence_s"] is None
        assert tab.wait(_STATUS, "paused") == "paused"
        page.change(b'{"paused": false}')
        # What was held back while the run was paused is no silence.
        assert page.state()["silence_s"] < 2
        assert until(lambda: publish(page) is None and tab.ask(_STATUS).startswith("running"))
    for index in range(9):
        page.tell(str(index))
    assert [news["text"] for news in page.state()["news"]] == ["4", "5", "6", "7", "8"]


def test_a_run_tells_the_page_what_its_source_does(
    detector: Detector, monkeypatch: pytest.MonkeyPatch, grey: Callable[..., Any]
) -> None:
    class Feed:
        stalled = False

        def read(self) -> Any:
            time.sleep(0.05)
            while self.stalled and not stop.is_set():
                time.sleep(0.05)
            return grey(200, (256, 128))

        def close(self) -> None:
            pass

    feed, stop, info = Feed(), threading.Event(), SourceInfo("camera", "camera 0", 20.0, None, live=True)
    patience = Patience(silence_s=0.2)
    monkeypatch.setattr(
        "drivetl.video.pipeline.open_source",
        lambda *_, live, **__: LiveSource(
            info, feed, lambda: None, max_age_ms=9999, patience=patience, say=live.say, stopped=live.stopped
        ),
    )
    monkeypatch.setattr("drivetl.video.server._FAREWELL_S", 0.0)
    said: list[str] = []
    with LivePage(port=0) as page:
        around = Around(stopped=stop.is_set, say=said.append, page=page)
        thread = threading.Thread(target=run_video, args=("0", [Model(detector)], None, None, around))
        thread.start()
        try:
            assert until(lambda: page.state().get("frame", 0) > 5 and page.state()["fps"] > 1)
            feed.stalled = True
            assert until(lambda: page.state()["silence_s"] > 2)
            state = page.state()
            assert state["running"] and state["fps"] < 1
            assert [news["text"] for news in state["news"]] == said and "no frame for" in said[-1]
            feed.stalled = False
            assert until(lambda: page.state()["silence_s"] < 1 and "frames again" in page.state()["news"][-1]["text"])
        finally:
            stop.set()
            thread.join()


def test_a_file_is_never_silent(page: LivePage) -> None:
    assert page.state()["silence_s"] is None and page.state()["news"] == []


def test_the_rate_of_the_page_is_that_of_now(page: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    rates = []
    for interval_s in (0.1,) * 50 + (0.5,) * 10:
        clock.now_s += interval_s
        publish(page)
        rates.append(page.state()["fps"])
    assert rates[49] == pytest.approx(10) and rates[59] == pytest.approx(2)
    clock.now_s += 60
    assert page.state()["fps"] < 0.1


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr("drivetl.video.meter.time", SimpleNamespace(perf_counter=lambda: self.now_s))
