# Tables, figures and the report of this study: cheap, made once at the end, from recorded predictions and, for the
# attention maps, from the weights that were kept.


localrules:
    score_runs,
    compare_runs,
    measure_latency,
    measure_fidelity,
    plot_figures,
    render_report,
    publish_runs,


# Before the scores, for the tables beside them; after the trainings, for they would be heard in the figures. The
# results that follow from it wait for the runs too without naming them: for every rule that names thousands of files
# Snakemake looks for the rules that make them.
rule measure_latency:
    message:
        "measure how long models of {PLAN.study.name} take on this machine"
    input:
        PLAN.missing_runs,
        stale=PLAN.stale_results,
    output:
        PLAN.results("measure-latency"),
    log:
        f"work/logs/{PLAN.study.name}/measure_latency.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "internal-kd measure-latency --params {params.study} > {log} 2>&1"


rule score_runs:
    message:
        "score the runs of {PLAN.study.name}"
    input:
        PLAN.renewed("measure-latency"),
        stale=PLAN.stale_results,
    output:
        [labelled(path, "tables") if path in TABLES else path for path in PLAN.results("score-runs")],
    log:
        f"work/logs/{PLAN.study.name}/score_runs.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "internal-kd score-runs --params {params.study} > {log} 2>&1"


rule compare_runs:
    message:
        "compare the methods of {PLAN.study.name}"
    input:
        PLAN.renewed("score-runs"),
    output:
        [labelled(path, "tables") if path in TABLES else path for path in PLAN.results("compare-runs")],
    log:
        f"work/logs/{PLAN.study.name}/compare_runs.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "internal-kd compare-runs --params {params.study} > {log} 2>&1"


rule measure_fidelity:
    message:
        "hold the students of {PLAN.study.name} beside their teachers"
    input:
        PLAN.renewed("score-runs"),
    output:
        [labelled(path, "tables") if path in TABLES else path for path in PLAN.results("measure-fidelity")],
    log:
        f"work/logs/{PLAN.study.name}/measure_fidelity.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "internal-kd measure-fidelity --params {params.study} > {log} 2>&1"


# Runs the models themselves, once through a few dev examples: what recording a teacher asks for is more than enough.
rule map_attention:
    message:
        "hold the attention maps of {PLAN.study.name} beside their teachers'"
    input:
        PLAN.renewed("score-runs"),
    output:
        PLAN.results("map-attention"),
    log:
        f"work/logs/{PLAN.study.name}/map_attention.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("recording")
    resources:
        **PLAN.resources("recording"),
    shell:
        "internal-kd map-attention --params {params.study} > {log} 2>&1"


rule plot_figures:
    message:
        "draw the figures of {PLAN.study.name}"
    input:
        PLAN.renewed("score-runs", "compare-runs", "measure-fidelity", "map-attention"),
    output:
        [labelled(path, "figures") for path in PLAN.results(*PLAN.figures)],
    log:
        f"work/logs/{PLAN.study.name}/plot_figures.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "internal-kd plot-figures --params {params.study} > {log} 2>&1"


rule render_report:
    message:
        "write the report of {PLAN.study.name}"
    input:
        PLAN.renewed("score-runs", "compare-runs", "measure-fidelity", "map-attention", *PLAN.figures),
    output:
        [labelled(path, "report") for path in PLAN.results("render-report")],
    log:
        f"work/logs/{PLAN.study.name}/render_report.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "internal-kd render-report --params {params.study} > {log} 2>&1"


# MLflow is a window: what is wrong with it is said, and never fails a study. What it does not show is told again the
# next time, or by hand.
rule publish_runs:
    message:
        "show {PLAN.study.name} in MLflow"
    input:
        PLAN.renewed(),
        stale=PLAN.stale_published,
    output:
        marker=str(PLAN.published),
    log:
        f"work/logs/{PLAN.study.name}/publish_runs.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "internal-kd publish-runs --params {params.study} --marker {output.marker} > {log} 2>&1 || {{"
        " echo 'warning: the study is whole, but MLflow does not show it:' \"$(tail -n 1 {log})\""
        " '| by hand: internal-kd publish-runs --params {params.study}' >&2;"
        " echo 'not yet' > {output.marker}; }}"
