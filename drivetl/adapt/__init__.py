"""Weights + dataset → adapted weights.

``head_transfer`` carries classifier rows over by meaning, ``trainer`` is Ultralytics' trainer with the project's
rules, ``state`` makes a run resumable, ``training`` puts them together. Import `drivetl.adapt.training.train`; this
package itself and `drivetl.adapt.config` load no torch.
"""
