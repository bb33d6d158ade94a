"""Open a page in headless Chromium and ask it what it did, over its debugging pipe (no port, no package)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_DEADLINE_S = 60
_ASK = """JSON.stringify([...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight, i.alt]))"""


@dataclass
class Visit:
    """What was seen: pictures as (loaded, width, height, alt), console messages, requests' URLs without data URIs."""

    images: list[list[Any]] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    title: str = ""
    load_ms: float = 0.0
    content_width_px: int = 0


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("needs a browser: Debian's package chromium is not installed")
    return found


class _Pipe:
    """Chromium's DevTools protocol over file descriptors 3 and 4: JSON, each message ended by a zero byte."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        os.set_blocking(read, False)
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _DEADLINE_S
        while time.monotonic() < deadline:
            messages = self._messages()
            # All of them: with the answer, events may come that are asked for later.
            self.events += [found for found in messages if found.get("id") != self._number]
            for found in messages:
                if found.get("id") == self._number:
                    assert "error" not in found, found
                    result: dict[str, Any] = found["result"]
                    return result
            time.sleep(0.02)
        raise TimeoutError(f"chromium did not answer {method}")

    def wait_for(self, event: str) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while not any(found.get("method") == event for found in self.events):
            assert time.monotonic() < deadline, f"chromium did not report {event}"
            self.events += self._messages()
            time.sleep(0.02)

    def _messages(self) -> list[dict[str, Any]]:
        try:
            self._buffer += os.read(self._read, 1 << 20)
        except BlockingIOError:
            return []
        *whole, self._buffer = self._buffer.split(b"\0")
        return [json.loads(text) for text in whole]


@contextmanager
def browser() -> Iterator[_Pipe]:
    """Run Chromium and yield the pipe that commands it."""
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += ["--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        # The browser wants its ends of the pipes at 3 and 4, which the shell arranges.
        script = f'exec "$0" "$@" 3<&{down_read} 4>&{up_write}'
        process = subprocess.Popen(
            ["/bin/bash", "-c", script, chromium(), *options, "about:blank"],
            pass_fds=(down_read, up_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(down_read)
        os.close(up_write)
        try:
            yield _Pipe(down_write, up_read)
        finally:
            process.terminate()
            process.wait(timeout=20)
            os.close(down_write)
            os.close(up_read)


def visit(
    page: Path, screenshot: Path | None = None, width_px: int = 1280, *, media: str = "screen", scheme: str = "light"
) -> Visit:
    """Load a page from its file; ``media`` is screen or print, ``scheme`` light or dark. The screenshot is whole."""
    with browser() as pipe:
        tab = Tab(pipe, page.resolve().as_uri(), width_px, media=media, scheme=scheme).loaded()
        seen = Visit()
        seen.images = json.loads(tab.ask(_ASK))
        seen.title = tab.ask("document.title")
        seen.load_ms = float(tab.ask("performance.getEntriesByType('navigation')[0].loadEventStart"))
        seen.content_width_px = int(tab.ask("document.documentElement.scrollWidth"))
        if screenshot is not None:
            height = min(int(tab.ask("document.documentElement.scrollHeight")), 16_000)
            tab.screenshot(screenshot, clip={"x": 0, "y": 0, "width": width_px, "height": height, "scale": 1})
        seen.requests, seen.console = tab.requests(), tab.console()
        return seen


class Tab:
    """A page that stays open."""

    def __init__(
        self, pipe: _Pipe, url: str, width_px: int = 1280, *, media: str = "screen", scheme: str = "light"
    ) -> None:
        self._pipe = pipe
        target = pipe.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = pipe.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            pipe.call(f"{domain}.enable", self._session)
        size = {"width": width_px, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        pipe.call("Emulation.setDeviceMetricsOverride", self._session, **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        pipe.call("Emulation.setEmulatedMedia", self._session, media=media, features=features)
        pipe.call("Page.navigate", self._session, url=url)

    def loaded(self) -> Tab:
        """Wait for the page and everything in it."""
        self._pipe.wait_for("Page.loadEventFired")
        return self

    def ask(self, expression: str) -> str:
        options = {"expression": expression, "awaitPromise": True}
        return str(self._pipe.call("Runtime.evaluate", self._session, **options)["result"]["value"])

    def wait(self, expression: str, wanted: str = "True") -> str:
        """Ask until the answer is the wanted one; return the last answer."""
        deadline = time.monotonic() + _DEADLINE_S
        while (answer := self.ask(expression)) != wanted and time.monotonic() < deadline:
            time.sleep(0.1)
        return answer

    def click(self, selector: str) -> None:
        box = json.loads(self.ask(f"JSON.stringify(document.querySelector({selector!r}).getBoundingClientRect())"))
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self._pipe.call("Input.dispatchMouseEvent", self._session, type=kind, **place)

    def screenshot(self, target: Path, clip: dict[str, int] | None = None) -> None:
        options = {"clip": clip} if clip else {}
        shot = self._pipe.call(
            "Page.captureScreenshot", self._session, format="png", captureBeyondViewport=True, **options
        )
        target.write_bytes(base64.b64decode(shot["data"]))

    def requests(self) -> list[str]:
        """The URLs that were asked for, without data URIs."""
        sent = [e["params"] for e in self._pipe.events if e.get("method") == "Network.requestWillBeSent"]
        return [p["request"]["url"] for p in sent if not p["request"]["url"].startswith("data:")]

    def console(self) -> list[str]:
        """What the page or the browser complained about or said."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(e.get("params", {}))[:4000] for e in self._pipe.events if e.get("method") in kinds]
