# Examples and encoders, once per source; token ids, once per task, encoder and length.


localrules:
    fetch_task,
    fetch_encoder,


# INTERNAL_KD_WARM is emptied: a warm worker has loaded its libraries without a network.
rule fetch_task:
    message:
        "fetch {wildcards.task}"
    input:
        PLAN.inputs,
    output:
        manifest="data/tasks/{task}-{fp}/manifest.json",
    log:
        "work/logs/data/tasks/{task}-{fp}.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "INTERNAL_KD_WARM= exec internal-kd make {wildcards.fp} --params {params.study} --log {log}"


rule fetch_encoder:
    message:
        "fetch the encoder {wildcards.encoder}"
    input:
        PLAN.inputs,
    output:
        manifest="data/encoders/{encoder}-{fp}/manifest.json",
    log:
        "work/logs/data/encoders/{encoder}-{fp}.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "INTERNAL_KD_WARM= exec internal-kd make {wildcards.fp} --params {params.study} --log {log}"


rule encode_task:
    message:
        "encode {wildcards.task}"
    input:
        PLAN.inputs,
    output:
        manifest="work/inputs/{task}-{fp}/manifest.json",
    log:
        "work/logs/inputs/{task}-{fp}.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "exec internal-kd make {wildcards.fp} --params {params.study} --log {log}"
