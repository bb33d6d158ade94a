"""Weights to a bundle that runs in the car, and the proof that it is the same model within its latency budget.

In the order of the work::

    export      weights -> bundle: model.onnx, its contract, golden frames, a report
    rewrite     the same graph from operators that CPU kernels run faster
    graph, nms  changes to the exported graph: preprocessing inside, half precision, suppression inside
    native      the command that builds a device's own engine from the bundle
    calibration, qdq, sensitivity, quantise     8 bits within an accuracy budget
    golden      the frames with expected detections that a device tests itself with
    tolerances  how far a bundle may be from its weights, by precision
    matching, tally     what bundle and weights give for the same pictures, and what rounding excuses
    parity      is the bundle the model that it was exported from? letterbox, raw tensors, detections, accuracy
    record      the verdict, written into the bundle
    profiles, place     what a piece of hardware must keep to, and where to measure
    machine, gpu_state  what a figure was measured on
    roofline, prediction    how long a frame would take on hardware that nobody here has
    sampling, tails, latency    how long a frame takes, stage by stage, on the provider that really ran
    against_bare    what measuring it costs
    beside      the same frame through two bundles in turns
    versus      the same frame through Ultralytics' own ONNX path, beside ours

Importing it loads neither torch nor onnx: `bench` works in the base install.
"""

from drivetl.deploy.beside import BesideResult, bench_beside
from drivetl.deploy.export import ExportResult, GraphOptions, export
from drivetl.deploy.latency import LatencyResult, bench
from drivetl.deploy.native import NativeBuild, check_for, native_build
from drivetl.deploy.parity import ParityResult, verify_bundle
from drivetl.deploy.place import Place
from drivetl.deploy.prediction import Prediction, predict, rank
from drivetl.deploy.profiles import Profile, load_profile
from drivetl.deploy.quantise import Int8Options
from drivetl.deploy.record import check_recordable, record_verification
from drivetl.deploy.sampling import Sampling
from drivetl.deploy.tolerances import Tolerances
from drivetl.deploy.versus import VersusResult, versus_ultralytics

__all__ = [
    "BesideResult",
    "ExportResult",
    "GraphOptions",
    "Int8Options",
    "LatencyResult",
    "NativeBuild",
    "ParityResult",
    "Place",
    "Prediction",
    "Profile",
    "Sampling",
    "Tolerances",
    "VersusResult",
    "bench",
    "bench_beside",
    "check_for",
    "check_recordable",
    "export",
    "load_profile",
    "native_build",
    "predict",
    "rank",
    "record_verification",
    "verify_bundle",
    "versus_ultralytics",
]
