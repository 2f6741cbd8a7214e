"""How fast distillation is here, beside a plain loop, TextBrewer and torchdistill: ``make bench``.

`workload` makes the models and examples that all are given, `contestants` lists who takes part, `worker` is one of
them in a process of its own, `rounds` lets them run in turn, `promises` times what is no training, `targets` and
`page` write docs/explanation/performance.md.
"""
