"""Chromium, driven by its DevTools protocol over a pipe: messages are JSON, each ended by a NUL byte.

`python -m tests.browser.chromium report.html folder` takes screenshots of a page, desktop, dark and phone, and
prints it.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

PHONE, DESKTOP = (360, 740), (1280, 900)
SECONDS = 60.0  # an answer's, at most
# The browser wants its pipes as 3 and 4. The second is never 3: it was opened after three others.
LAUNCH = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])"""
HIGHEST = 16000  # CSS pixels of one screenshot: textures have a limit


def executable() -> str | None:
    """Chromium or Chrome, if there is one in PATH."""
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))
    return next(filter(None, found), None)


class Chromium:
    """A browser with one page; `events` are all of its messages so far, as (method, params).

    Raises:
        FileNotFoundError: if there is no browser in PATH.
    """

    def __init__(self, width: int = DESKTOP[0], height: int = DESKTOP[1]) -> None:
        program = executable()
        if program is None:
            raise FileNotFoundError("no chromium in PATH")
        self.size = (width, height)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._buffer, self._last = b"", 0
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = [
            program,
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={self._profile.name}",
            f"--window-size={width},{height}",
            *("--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"),
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out), *command],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._out)  # the browser ends with its pipe
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        self._profile.cleanup()

    # ------------------------------------------------------------ the protocol
    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers.

        Raises:
            RuntimeError: if it answers with an error, or has ended.
            TimeoutError: if it does not answer.
        """
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session and not method.startswith("Target."):
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        ends = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], max(ends - time.monotonic(), 0))[0]:
                raise TimeoutError("chromium does not answer")
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("chromium has ended")
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self.events.append((message["method"], message.get("params", {})))
        return message

    # ------------------------------------------------------------ a page
    def open(self, path: Path) -> None:
        """Load a file, with all that it holds."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.until(lambda: any(method == "Page.loadEventFired" for method, _ in self.events))
        self.evaluate("document.fonts.ready.then(() => true)")

    def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        code = {"Tab": 9, "Enter": 13, "Escape": 27}[key]
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def point(self, x: float, y: float) -> None:
        """Move the mouse there, in CSS pixels of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def prefer(self, scheme: str) -> None:
        """Of colours: "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True)["data"])

    def screenshots(self) -> list[bytes]:
        """PNG images of the whole page, one below another."""
        width, height = self.size[0], self.evaluate("document.documentElement.scrollHeight")
        images = []
        for top in range(0, height, HIGHEST):
            clip = {"x": 0, "y": top, "width": width, "height": min(HIGHEST, height - top), "scale": 1}
            answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
            images.append(base64.b64decode(answer["data"]))
        return images


def main(report: str, folder: str) -> None:
    into = Path(folder)
    into.mkdir(parents=True, exist_ok=True)
    for name, size in {"desktop": DESKTOP, "dark": DESKTOP, "phone": PHONE}.items():
        with Chromium(*size) as browser:
            browser.prefer("dark" if name == "dark" else "light")
            browser.open(Path(report))
            for place, image in enumerate(browser.screenshots(), 1):
                path = into / f"{name}-{place}.png"
                path.write_bytes(image)
                print(path)
            if name == "desktop":
                (into / "print.pdf").write_bytes(browser.pdf())
                print(into / "print.pdf")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m tests.browser.chromium report.html folder")
    main(*sys.argv[1:])
