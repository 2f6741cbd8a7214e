# Students to hand on: asked for by `snakemake export`, never by the study itself.


rule export_students:
    message:
        "export the best student of every task of {PLAN.study.name}"
    input:
        PLAN.renewed(),
        PLAN.missing_data,
        stale=PLAN.stale_exports,
    output:
        PLAN.exports,
    log:
        f"work/logs/{PLAN.study.name}/export_students.log",
    params:
        study=PARAMS,
    # The whole dev and test sets go through the model, as when a teacher is recorded.
    threads: PLAN.threads("recording")
    resources:
        **PLAN.resources("recording"),
    # What is missing for ONNX is told where people look.
    shell:
        "internal-kd export-students --params {params.study} > {log} 2>&1 && {{ grep '^warning' {log} >&2 || true; }}"
