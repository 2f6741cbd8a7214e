# Examples and the encoder, once per source; token ids, once per task and encoder.


localrules:
    fetch_task,
    fetch_encoder,


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
        "internal-kd fetch-task --params {params.study} --task {wildcards.task} --expect {wildcards.fp} > {log} 2>&1"


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
        "internal-kd fetch-encoder --params {params.study} --expect {wildcards.fp} > {log} 2>&1"


rule tokenize_task:
    message:
        "tokenise {wildcards.task}"
    input:
        PLAN.inputs,
    output:
        manifest="work/tokens/{task}-{fp}/manifest.json",
    log:
        "work/logs/tokens/{task}-{fp}.log",
    params:
        study=PARAMS,
    threads: PLAN.threads("light")
    resources:
        **PLAN.resources("light"),
    shell:
        "internal-kd tokenize-task --params {params.study} --task {wildcards.task} --expect {wildcards.fp} > {log} 2>&1"
