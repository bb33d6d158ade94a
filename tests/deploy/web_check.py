"""A bundle's golden frames through onnxruntime-web in headless Chromium: a client that nobody here wrote.

    python -m tests.deploy.web_check BUNDLE

Not a test, because it needs the npm registry once: npm packs the pinned version, and its tarball must have the pinned
hash. The page is served on the loopback and asks for nothing else. The network's input comes from the runtime's
letterbox, its output goes through the runtime's decoder; what is compared is what the browser computed in between.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from drivetl.deploy.matching import Agreement, compare_detections
from drivetl.errors import DownloadError, DrivetlError, MissingExtraError, quoted
from drivetl.runtime import Detections, Detector
from drivetl.runtime.bundle import MODEL_FILE
from drivetl.runtime.overlap import visible
from drivetl.runtime.selftest import EXPECTED_FILE, GOLDEN_FOLDER
from tests.report.browser import Tab, browser

PACKAGE = "onnxruntime-web@1.30.0"
# dist.integrity of that version in the registry's metadata, read on 2026-11-24.
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
WANTED = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PATIENCE_S = 600
TYPES = {".wasm": "application/wasm", ".mjs": "text/javascript", ".html": "text/html", ".onnx": "application/onnx"}
PAGE = """<!doctype html><title>drivetl</title><script type="module">
import * as ort from "/ort.wasm.min.mjs";
const say = (path, body) => fetch(path, {method: "POST", body});
try {
  ort.env.wasm.wasmPaths = "/";
  ort.env.wasm.numThreads = 1;
  const task = await (await fetch("/task.json")).json();
  const session = await ort.InferenceSession.create("/model.onnx", {executionProviders: ["wasm"]});
  for (const index of task.frames.keys()) {
    const bytes = await (await fetch("/input/" + index)).arrayBuffer();
    const values = task.dtype === "uint8" ? new Uint8Array(bytes) : new Float32Array(bytes);
    const output = await session.run({[task.input]: new ort.Tensor(task.dtype, values, task.frames[index])});
    await say("/output/" + index, output[task.output].data);
  }
  await say("/done", ort.env.versions.web);
} catch (error) { await say("/failed", String(error)); }
</script>"""


@dataclass
class Exchange:
    """What the page is given and what it gives back."""

    files: dict[str, bytes]
    outputs: dict[int, bytes] = field(default_factory=dict)
    said: str = ""
    failed: bool = False
    over: threading.Event = field(default_factory=threading.Event)


def fetch(folder: Path) -> dict[str, bytes]:
    """Return the package's files that the page needs, from a tarball that npm packed and whose hash is right."""
    npm = shutil.which("npm")
    if npm is None:
        raise MissingExtraError("npm is not installed, and it fetches onnxruntime-web; on Debian: apt install npm")
    folder.mkdir(parents=True, exist_ok=True)
    tarball = folder / f"{PACKAGE.replace('@', '-')}.tgz"
    if not tarball.is_file():
        words = [npm, "pack", PACKAGE, "--ignore-scripts", "--pack-destination", str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DownloadError(f"npm could not fetch {PACKAGE}: {quoted(done.stderr.strip()[-300:], 300)}")
    found = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if found != SHA512:
        raise DownloadError(f"{quoted(tarball)} has sha512 {found}, expected {SHA512}; delete it and try again")
    with tarfile.open(tarball) as archive:
        members = {name: archive.extractfile(f"package/dist/{name}") for name in WANTED}
        return {f"/{name}": member.read() for name, member in members.items() if member is not None}


def serve(exchange: Exchange) -> ThreadingHTTPServer:
    """Serve the files on a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exchange.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", TYPES.get(Path(self.path).suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            if self.path.startswith("/output/"):
                exchange.outputs[int(self.path.rpartition("/")[2])] = body
                return
            exchange.said, exchange.failed = body.decode(), self.path == "/failed"
            exchange.over.set()

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def check(bundle: Path, cache: Path) -> dict[str, Any]:
    """Run the golden frames in the browser and compare; return the JSON document."""
    detector = Detector(bundle)
    contract = detector.contract
    expected = json.loads((bundle / GOLDEN_FOLDER / EXPECTED_FILE).read_text(encoding="utf-8"))["frames"]
    count = 1 if contract.dynamic else contract.batch
    tensors, geometries = [], []
    for frame in expected:
        picture = cv2.imread(str(bundle / GOLDEN_FOLDER / frame["file"]))
        tensor, geometry = detector.preprocess(np.asarray(picture, np.uint8))
        tensors.append(np.repeat(tensor, count, axis=0))
        geometries.append(geometry)
    task = {
        "input": contract.input_name,
        "output": contract.output_name,
        "dtype": contract.input_dtype,
        "frames": [list(tensor.shape) for tensor in tensors],
    }
    files = {"/index.html": PAGE.encode(), "/task.json": json.dumps(task).encode()}
    files["/model.onnx"] = (bundle / MODEL_FILE).read_bytes()
    files |= {f"/input/{index}": tensor.tobytes() for index, tensor in enumerate(tensors)}
    exchange = Exchange({**fetch(cache), **files})
    server = serve(exchange)
    home = f"http://127.0.0.1:{server.server_port}/"
    try:
        with browser() as pipe:
            tab = Tab(pipe, f"{home}index.html")
            finished = exchange.over.wait(PATIENCE_S)
            tab.ask("document.title")  # what the browser reported meanwhile is read with the answer
            if not finished or exchange.failed:
                raise DrivetlError(f"the browser did not finish: {exchange.said or tab.console()}")
            asked = [url for url in tab.requests() if not url.startswith(home)]
    finally:
        server.shutdown()
    agreement, most = Agreement(), 0.0
    for index, (tensor, geometry, frame) in enumerate(zip(tensors, geometries, expected, strict=True)):
        ours = detector.infer(tensor)[:1]
        theirs = np.frombuffer(exchange.outputs[index], np.float32).reshape(len(tensor), *ours.shape[1:])[:1]
        most = max(most, float(np.abs(theirs - ours).max()))
        confidence = frame["confidence"]
        agreement += compare_detections(
            recorded(frame),
            visible(detector.postprocess(theirs, geometry, confidence=confidence)),
            min_iou=0.99,
            confidence=confidence,
            nms_iou=contract.thresholds.iou,
            near=frame["tolerance_confidence"],
        )
    return {
        "client": f"onnxruntime-web {exchange.said} (wasm, one thread)",
        "frames": len(expected),
        "recorded_detections": sum(len(frame["detections"]) for frame in expected),
        "matched": agreement.matched,
        "missed": agreement.missed,
        "excused": agreement.excused,
        "max_abs_diff_raw": most,
        "other_requests": asked,
        "passed": agreement.matched > 0 and agreement.missed == 0 and not asked,
    }


def recorded(frame: dict[str, Any]) -> Detections:
    """Return what the exporting machine found on a golden frame."""
    rows = frame["detections"]
    return Detections(
        np.array([row["xyxy_px"] for row in rows], np.float32).reshape(-1, 4),
        np.array([row["confidence"] for row in rows], np.float32),
        np.array([row["class_id"] for row in rows], np.int64),
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.web_check")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("runs/web-check"))
    chosen = parser.parse_args()
    try:
        if not any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
            raise MissingExtraError("no Chromium is installed; on Debian: apt install chromium")
        document = check(chosen.bundle, chosen.cache)
    except DrivetlError as error:
        print(f"web-check: error: {error}", file=sys.stderr)
        return error.exit_status
    print(json.dumps(document, indent=2))
    return 0 if document["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
