"""How fast distillation is here, compared with a plain loop, TextBrewer and torchdistill: ``make bench``.

`workload` makes the models and examples that all contestants are given, `contestants` lists them, `worker` is one of
them in a process of its own, `rounds` lets them run in turn. `objectives` lists what each objective reads and records,
`promises` times what is not training, `agreement` compares the values of losses with the other libraries' own.
`targets` and `page` write docs/explanation/performance.md.
"""
