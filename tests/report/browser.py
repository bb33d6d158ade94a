"""Open a page in headless Chromium and ask it what it did, over its debugging pipe (no port, no package)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
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
            for found in self._messages():
                if found.get("id") == self._number:
                    assert "error" not in found, found
                    result: dict[str, Any] = found["result"]
                    return result
                self.events.append(found)
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


def visit(
    page: Path, screenshot: Path | None = None, width_px: int = 1280, *, media: str = "screen", scheme: str = "light"
) -> Visit:
    """Load a page from its file; ``media`` is screen or print, ``scheme`` light or dark. The screenshot is whole."""
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += ["--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        # The browser wants its ends of the pipes at 3 and 4, which the shell arranges.
        script = f'exec "$0" "$@" 3<&{down_read} 4>&{up_write}'
        browser = subprocess.Popen(
            ["/bin/bash", "-c", script, chromium(), *options, "about:blank"],
            pass_fds=(down_read, up_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(down_read)
        os.close(up_write)
        try:
            return _look(_Pipe(down_write, up_read), page, screenshot, width_px, (media, scheme))
        finally:
            browser.terminate()
            browser.wait(timeout=20)
            os.close(down_write)
            os.close(up_read)


def _look(pipe: _Pipe, page: Path, screenshot: Path | None, width_px: int, look: tuple[str, str]) -> Visit:
    target = pipe.call("Target.createTarget", url="about:blank")["targetId"]
    session = pipe.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Network", "Runtime", "Log"):
        pipe.call(f"{domain}.enable", session)
    pipe.call(
        "Emulation.setDeviceMetricsOverride", session, width=width_px, height=900, deviceScaleFactor=1, mobile=False
    )
    features = [{"name": "prefers-color-scheme", "value": look[1]}]
    pipe.call("Emulation.setEmulatedMedia", session, media=look[0], features=features)
    pipe.call("Page.navigate", session, url=page.resolve().as_uri())
    pipe.wait_for("Page.loadEventFired")
    seen = Visit()
    seen.images = json.loads(_ask(pipe, session, _ASK))
    seen.title = _ask(pipe, session, "document.title")
    seen.load_ms = float(_ask(pipe, session, "performance.getEntriesByType('navigation')[0].loadEventStart"))
    seen.content_width_px = int(_ask(pipe, session, "document.documentElement.scrollWidth"))
    if screenshot is not None:
        import base64

        height = int(_ask(pipe, session, "document.documentElement.scrollHeight"))
        clip = {"x": 0, "y": 0, "width": width_px, "height": min(height, 16_000), "scale": 1}
        shot = pipe.call("Page.captureScreenshot", session, format="png", captureBeyondViewport=True, clip=clip)
        screenshot.write_bytes(base64.b64decode(shot["data"]))
    for event in pipe.events:
        params = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            url = params["request"]["url"]
            seen.requests += [] if url.startswith("data:") else [url]
        elif event.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            seen.console.append(json.dumps(params)[:4000])
    return seen


def _ask(pipe: _Pipe, session: str, expression: str) -> str:
    return str(pipe.call("Runtime.evaluate", session, expression=expression)["result"]["value"])
