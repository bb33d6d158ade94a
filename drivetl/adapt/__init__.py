"""Weights + dataset → adapted weights.

``head_transfer`` carries classifier rows over by meaning, ``trainer`` is Ultralytics' trainer with the project's
rules, ``state`` makes a run resumable, ``training`` puts them together. Import `drivetl.adapt.training.train`; this
package itself and `drivetl.adapt.config` load no torch.
"""

from drivetl.cores import let_threads_sleep

let_threads_sleep()  # before a module of this package imports torch
