# Tables, figures and report of this study: cheap, made once at the end, from recorded predictions and, for attention
# maps, from the weights that were kept.


localrules:
    measure_latency,
    evaluate,
    plot,
    report,
    publish_runs,


# After the trainings, because they would show in the timings. The results that follow wait for the runs too without
# naming them: for every rule that names thousands of files Snakemake looks for the rules that make them.
rule measure_latency:
    message:
        "measure how long models of {PLAN.study.name} take on this machine"
    input:
        PLAN.missing_runs,
        stale=PLAN.stale_results,
    output:
        PLAN.results("measure_latency"),
    log:
        f"work/logs/{PLAN.study.name}/measure_latency.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "exec internal-kd measure-latency --params {params.study} > {log} 2>&1"


# Runs the models themselves, once through a few dev examples: what recording a teacher asks for is more than enough.
rule map_attention:
    message:
        "compare the attention maps of {PLAN.study.name} with their teachers'"
    input:
        PLAN.renewed("measure_latency"),
        stale=PLAN.stale_results,
    output:
        PLAN.results("map_attention"),
    log:
        f"work/logs/{PLAN.study.name}/map_attention.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("recording")
    resources:
        **PLAN.resources("recording"),
    shell:
        "exec internal-kd map-attention --params {params.study} > {log} 2>&1"


rule evaluate:
    message:
        "score and compare the runs of {PLAN.study.name}"
    input:
        PLAN.renewed("measure_latency", "map_attention"),
        stale=PLAN.stale_results,
    output:
        [labelled(path) for path in PLAN.results("evaluate")],
    log:
        f"work/logs/{PLAN.study.name}/evaluate.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "exec internal-kd evaluate --params {params.study} > {log} 2>&1"


rule plot:
    message:
        "draw the figures of {PLAN.study.name}"
    input:
        PLAN.renewed("evaluate"),
    output:
        [labelled(path) for path in PLAN.results("plot")],
    log:
        f"work/logs/{PLAN.study.name}/plot.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "exec internal-kd plot --params {params.study} > {log} 2>&1"


rule report:
    message:
        "write the report of {PLAN.study.name}"
    input:
        PLAN.renewed("evaluate", "plot"),
    output:
        [labelled(path) for path in PLAN.results("report")],
    log:
        f"work/logs/{PLAN.study.name}/report.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "exec internal-kd report --page --params {params.study} > {log} 2>&1"


# MLflow is a window: what is wrong with it is shown, and never fails a study. What it does not show is announced, and
# tried again the next time, or by hand.
rule publish_runs:
    message:
        "show {PLAN.study.name} in MLflow"
    input:
        PLAN.renewed("report"),
        stale=PLAN.stale_published,
    output:
        marker=PLAN.published,
    log:
        f"work/logs/{PLAN.study.name}/publish_runs.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "internal-kd publish-runs --params {params.study} --log {log} || {{"
        " echo 'warning: the study is complete, but MLflow does not show it:' \"$(tail -n 1 {log})\""
        " '| by hand: internal-kd publish-runs --params {params.study}' >&2;"
        " echo 'not shown' > {output.marker}; }}"
