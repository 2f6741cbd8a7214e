# Students to hand on: asked for by `snakemake export`, never by the study itself; ONNX needs the extra `export`.


rule export:
    message:
        "export the best student of every task of {PLAN.study.name}"
    input:
        PLAN.missing_runs,
        PLAN.missing_data,
        stale=PLAN.stale_exports,
    output:
        PLAN.exports,
    log:
        f"work/logs/{PLAN.study.name}/export.log",
    params:
        study=PARAMS,
    # The complete dev and test sets go through the model, as when a teacher is recorded.
    threads: PLAN.threads("recording")
    resources:
        **PLAN.resources("recording"),
    # What is missing for ONNX is shown on the terminal too.
    shell:
        "internal-kd export --params {params.study} > {log} 2>&1 && {{ grep '^warning' {log} >&2 || true; }}"
